//! The few words that tags, labels and annotations may hold in double braces.

/// A template names something that does not exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    /// The template as given.
    pub template: String,
    /// What stands in its braces.
    pub name: String,
}

impl std::fmt::Display for TemplateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "template \"{}\" names \"{}\"; only source.short is known",
            self.template, self.name
        )
    }
}

impl std::error::Error for TemplateError {}

/// Replaces `{{source.short}}` by the first 12 digits of the revision. A lone brace stays as it is.
pub fn render(template: &str, commit: &str) -> Result<String, TemplateError> {
    let mut text = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(start) = rest.find("{{") {
        let Some(length) = rest[start..].find("}}") else {
            break;
        };
        text.push_str(&rest[..start]);
        match rest[start + 2..start + length].trim() {
            "source.short" => text.push_str(commit.get(..12).unwrap_or(commit)),
            name => {
                return Err(TemplateError {
                    template: template.to_owned(),
                    name: name.to_owned(),
                });
            }
        }
        rest = &rest[start + length + 2..];
    }
    text.push_str(rest);
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_the_short_commit() {
        let commit = "4be1c2d0aa11bb22cc33dd44ee55ff6677889900";
        for (template, text) in [
            ("v1", "v1"),
            ("{{source.short}}", "4be1c2d0aa11"),
            ("main-{{ source.short }}-x", "main-4be1c2d0aa11-x"),
            ("{{source.short}}{{source.short}}", "4be1c2d0aa114be1c2d0aa11"),
            ("a{{b", "a{{b"),
        ] {
            assert_eq!(render(template, commit).as_deref(), Ok(text));
        }
        assert_eq!(render("{{build.number}}", commit).unwrap_err().name, "build.number");
    }
}
