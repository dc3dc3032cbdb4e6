//! conda.yaml and package.yaml: what rcc takes from them, and what it silently leaves out.
//!
//! Invariant: a [`Specification`] holds no credentials; a file with some is refused before anything of it is shown or hashed.

mod credentials;
mod dependency;
mod local;

pub(crate) use credentials::find as credentials_in;
use serde::Serialize;

use super::error::{Error, Location, Role};
use super::model::{Reader, Text};
use super::yaml::{Node, Value};
use dependency::Dependency;

/// An environment file as rcc understands it.
#[derive(Clone, Debug, Serialize)]
pub struct Specification {
    name: String,
    prefix: String,
    channels: Vec<String>,
    conda: Vec<String>,
    pip: Vec<String>,
    post_install: Vec<String>,
    #[serde(skip)]
    file: String,
    #[serde(skip)]
    places: Vec<(String, usize, usize)>,
    #[serde(skip)]
    dropped: Vec<Dropped>,
}

/// An entry that rcc leaves out without a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Where it stands.
    pub at: Location,
    /// The entry.
    pub entry: String,
    /// Why rcc leaves it out, with the cure.
    pub why: String,
}

/// Reads an environment file. Its name decides the format, as for rcc: `package.yaml`, whatever its case, or a conda.yaml.
pub fn parse(name: &str, text: &str) -> Result<Specification, Error> {
    let reader = Reader {
        file: name,
        role: Role::Environment,
    };
    let document = reader.document(text)?;
    let base = name.rsplit('/').next().unwrap_or(name);
    let specification = if base.eq_ignore_ascii_case("package.yaml") {
        package(&reader, &document)?
    } else {
        conda(&reader, &document)?
    };
    credentials::refuse(&specification)?;
    Ok(specification)
}

impl Specification {
    /// Channels in their order, each once.
    pub fn channels(&self) -> &[String] {
        &self.channels
    }

    /// Conda dependencies as rcc passes them on.
    pub fn conda(&self) -> &[String] {
        &self.conda
    }

    /// Lines of the requirements file that rcc writes for pip.
    pub fn pip(&self) -> &[String] {
        &self.pip
    }

    /// Commands that run after the packages are installed, each once.
    pub fn post_install(&self) -> &[String] {
        &self.post_install
    }

    /// Entries that rcc leaves out.
    pub fn dropped(&self) -> &[Dropped] {
        &self.dropped
    }

    /// Everything that rcc takes from the file, as one line of JSON: equal for files that differ in layout and comments only.
    pub fn canonical(&self) -> String {
        serde_json::to_string(self).expect("invariant: texts and lists of texts are JSON")
    }

    /// Where an entry stands.
    pub fn place(&self, entry: &str) -> Location {
        let place = self.places.iter().find(|(text, _, _)| text == entry);
        Location {
            file: self.file.clone(),
            line: place.map_or(0, |place| place.1),
            column: place.map_or(0, |place| place.2),
        }
    }

    /// Where the entry stands that a tool speaks of in its own words: a package with or without version, an address below a
    /// channel, a command. None when no entry fits.
    pub fn blame(&self, subject: &str) -> Option<Location> {
        let subject = subject.trim();
        let name = |text: &str| {
            let end = text
                .find(|letter: char| !(letter.is_alphanumeric() || "-_.".contains(letter)))
                .unwrap_or(text.len());
            text[..end].to_lowercase().replace(['_', '.'], "-")
        };
        let wanted = name(subject);
        let rules: [&dyn Fn(&str) -> bool; 4] = [
            &|entry| entry == subject,
            &|entry| entry.contains("://") && subject.starts_with(entry),
            &|entry| !wanted.is_empty() && !entry.contains("://") && name(entry) == wanted,
            &|entry| subject.len() >= 4 && (entry.contains(subject) || (entry.len() >= 4 && subject.contains(entry))),
        ];
        let (_, line, column) = rules.iter().find_map(|rule| self.places.iter().find(|(entry, _, _)| rule(entry)))?;
        Some(Location {
            file: self.file.clone(),
            line: *line,
            column: *column,
        })
    }

    /// Whether an environment file of this shape needs an rcc that knows uv-native environments (18.17 or later of that line).
    pub fn is_uv_native(&self) -> bool {
        let has = |name: &str| {
            self.conda
                .iter()
                .filter_map(|entry| Dependency::parse(entry))
                .any(|dependency| dependency.name.eq_ignore_ascii_case(name))
        };
        self.channels.is_empty() && has("python") && has("uv")
    }

    /// Entries whose version is left open, so that two resolves may differ.
    pub fn floating(&self) -> Vec<&str> {
        let pinned = |entry: &str, pip: bool| Dependency::parse(entry).is_none_or(|dependency| dependency.is_pinned(pip));
        let conda = self.conda.iter().filter(|entry| !pinned(entry, false));
        conda
            .chain(self.pip.iter().filter(|entry| !pinned(entry, true)))
            .map(String::as_str)
            .collect()
    }
}

fn conda(reader: &Reader<'_>, document: &Node) -> Result<Specification, Error> {
    let mut lists = Lists::new(reader);
    let mut conda = Vec::new();
    let mut pip = Vec::new();
    if let Some(node) = document.get("dependencies") {
        let items = match &node.value {
            Value::Sequence(items) => items.as_slice(),
            Value::Null => &[],
            _ => return Err(reader.wrong(node, "dependencies", "a list")),
        };
        for item in items {
            match &item.value {
                Value::Scalar { text, plain } if *plain && !is_text(text) => {
                    lists.drop(item, text, "rcc takes only texts; put it in quotes");
                }
                Value::Scalar { text, .. } => conda.push(Text::of(item, text)),
                Value::Mapping(pairs) => {
                    for (key, value) in pairs {
                        match (key.text(), &value.value) {
                            (Some("pip"), Value::Sequence(entries)) => {
                                for entry in entries {
                                    match (&entry.value, entry.text()) {
                                        (Value::Scalar { text, plain }, _) if *plain && !is_text(text) => {
                                            lists.drop(entry, text, "rcc takes only texts; put it in quotes");
                                        }
                                        (Value::Scalar { .. }, Some(text)) => pip.push(Text::of(entry, text)),
                                        _ => lists.drop(entry, entry.kind(), "rcc takes only texts in the pip list; write one text a line"),
                                    }
                                }
                            }
                            (Some("pip"), Value::Null) => {}
                            (Some("pip"), _) => lists.drop(value, "pip", "pip must be a list of texts"),
                            (key, _) => lists.drop(item, key.unwrap_or("an entry"), "rcc knows no other list than pip here"),
                        }
                    }
                }
                Value::Null | Value::Sequence(_) => lists.drop(item, item.kind(), "rcc takes only texts and the pip list here"),
            }
        }
    }
    Ok(lists.finish(
        reader.text(document, "name")?.text,
        reader.text(document, "prefix")?.text,
        reader.texts(document, "channels")?,
        conda,
        pip,
        reader.texts(document, "rccPostInstall")?,
        false,
    ))
}

fn package(reader: &Reader<'_>, document: &Node) -> Result<Specification, Error> {
    let lists = Lists::new(reader);
    let mut conda = Vec::new();
    let mut pip = Vec::new();
    if let Some(node) = document.get("dependencies") {
        if !matches!(node.value, Value::Mapping(_) | Value::Null) {
            return Err(reader.wrong(node, "dependencies of a package.yaml", "a mapping with conda-forge and pypi"));
        }
        conda = reader.texts(node, "conda-forge")?;
        pip = reader.texts(node, "pypi")?;
    }
    let channels = vec![Text {
        text: "conda-forge".to_owned(),
        ..Text::default()
    }];
    let post_install = reader.texts(document, "post-install")?;
    Ok(lists.finish(String::new(), String::new(), channels, conda, pip, post_install, true))
}

/// Whether rcc's YAML reader takes an unquoted scalar for text.
fn is_text(text: &str) -> bool {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", ".nan"];
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_start_matches(['-', '+']);
    let number = digits.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        && (lower.replace('_', "").parse::<f64>().is_ok() || digits.starts_with("0x") || digits.starts_with("0o"));
    !number && !WORDS.contains(&lower.as_str())
}

/// Collects what is taken and what is left out.
struct Lists {
    file: String,
    places: Vec<(String, usize, usize)>,
    dropped: Vec<Dropped>,
}

impl Lists {
    fn new(reader: &Reader<'_>) -> Self {
        Self {
            file: reader.file.to_owned(),
            places: Vec::new(),
            dropped: Vec::new(),
        }
    }

    fn drop(&mut self, node: &Node, entry: &str, why: &str) {
        self.leave_out(&Text::of(node, entry), why.to_owned());
    }

    fn leave_out(&mut self, entry: &Text, why: String) {
        self.dropped.push(Dropped {
            at: Location {
                file: self.file.clone(),
                line: entry.line,
                column: entry.column,
            },
            entry: entry.text.clone(),
            why,
        });
    }

    #[expect(clippy::too_many_arguments, reason = "the seven lists of an environment file")]
    fn finish(
        mut self,
        name: String,
        prefix: String,
        channels: Vec<Text>,
        conda: Vec<Text>,
        pip: Vec<Text>,
        post_install: Vec<Text>,
        package: bool,
    ) -> Specification {
        let channels = self.once(channels);
        let post_install = self.once(post_install);
        let mut conda = self.merge(conda, false);
        let mut pip = self.merge(pip, package);
        // A name in both lists is moved to conda; which of the two texts stays is decided as among equals.
        let mut conflict = false;
        pip.retain(|entry| {
            let Some(other) = conda.iter_mut().find(|other| other.same_name(entry)) else {
                return true;
            };
            if conflict {
                return true;
            }
            if let Some(chosen) = Dependency::choose(other, entry) {
                *other = chosen;
                false
            } else {
                conflict = true;
                true
            }
        });
        let texts = |list: Vec<Dependency>| list.into_iter().map(|dependency| dependency.original).collect();
        Specification {
            name,
            prefix,
            channels,
            conda: texts(conda),
            pip: texts(pip),
            post_install,
            file: self.file,
            places: self.places,
            dropped: self.dropped,
        }
    }

    fn once(&mut self, items: Vec<Text>) -> Vec<String> {
        let mut list: Vec<String> = Vec::new();
        for item in items {
            if !list.contains(&item.text) {
                self.places.push((item.text.clone(), item.line, item.column));
                list.push(item.text);
            }
        }
        list
    }

    /// rcc's merging: an exact entry wins over a bare one; two different exact ones end the list where they meet.
    fn merge(&mut self, items: Vec<Text>, package_pip: bool) -> Vec<Dependency> {
        let mut list: Vec<Dependency> = Vec::new();
        let mut stopped: Option<String> = None;
        for item in items {
            let Some(mut dependency) = Dependency::parse(&item.text) else {
                self.leave_out(
                    &item,
                    "rcc cannot read it as a package; it wants name, operator and version".to_owned(),
                );
                continue;
            };
            if package_pip {
                dependency.pin_for_pip();
            }
            if let Some(name) = &stopped {
                let why = format!("two versions of {name} stand before it, and rcc ignores the rest of the list; keep one of them");
                self.leave_out(&item, why);
                continue;
            }
            match list.iter_mut().find(|other| other.same_name(&dependency)) {
                None => {
                    self.places.push((dependency.original.clone(), item.line, item.column));
                    list.push(dependency);
                }
                Some(other) => {
                    if let Some(chosen) = Dependency::choose(other, &dependency) {
                        self.places.push((chosen.original.clone(), item.line, item.column));
                        *other = chosen;
                    } else {
                        let why = format!("{} stands before it, and rcc keeps the first; keep one of them", other.original);
                        stopped = Some(dependency.name.clone());
                        self.leave_out(&item, why);
                    }
                }
            }
        }
        list
    }
}

#[cfg(test)]
mod tests;
