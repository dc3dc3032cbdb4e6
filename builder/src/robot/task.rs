//! Which task an image runs, by rcc's own matching.

use super::error::Error;
use super::model::Robot;

impl Robot {
    /// The task to name in the image's command. `None` when there is exactly one task and nothing was asked for: rcc then
    /// runs that one. A name is trimmed of blanks and quotes, matched exactly, then without regard to case.
    pub fn select_task(&self, wanted: Option<&str>) -> Result<Option<String>, Error> {
        let names = || self.tasks().into_iter().map(str::to_owned).collect::<Vec<_>>();
        let wanted = wanted.unwrap_or_default();
        if wanted.is_empty() {
            return match self.tasks.as_slice() {
                [_] => Ok(None),
                _ => Err(Error::TaskOpen {
                    file: self.file.display().to_string(),
                    tasks: names(),
                }),
            };
        }
        let key = wanted.trim_matches(['\t', '\r', '\n', '"', '\'', ' ']);
        if let Some(name) = self.tasks().into_iter().find(|name| *name == key) {
            return Ok(Some(name.to_owned()));
        }
        let caseless = key.to_lowercase();
        let matching: Vec<&str> = self
            .tasks()
            .into_iter()
            .filter(|name| name.trim().to_lowercase() == caseless)
            .collect();
        match matching.as_slice() {
            [name] => Ok(Some((*name).to_owned())),
            // rcc takes a random one of several; an image must not.
            [_, _, ..] => Err(Error::TaskOpen {
                file: self.file.display().to_string(),
                tasks: matching.into_iter().map(str::to_owned).collect(),
            }),
            [] => Err(Error::TaskUnknown {
                file: self.file.display().to_string(),
                wanted: wanted.to_owned(),
                tasks: names(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::robot::{Error, parse};

    fn select(names: &[&str], wanted: Option<&str>) -> Result<Option<String>, Error> {
        let tasks: String = names
            .iter()
            .map(|name| format!("  {name:?}: {{shell: x}}\n"))
            .collect::<Vec<_>>()
            .concat();
        parse(&format!("tasks:\n{tasks}artifactsDir: output\n"), "robot.yaml")
            .unwrap()
            .select_task(wanted)
    }

    #[test]
    fn selects_as_rcc_does() {
        assert_eq!(select(&["Main"], None).unwrap(), None);
        assert_eq!(select(&["Main"], Some("")).unwrap(), None);
        for wanted in ["Run all", " \"run ALL\" ", "'Run all'\n"] {
            assert_eq!(select(&["Main", "Run all"], Some(wanted)).unwrap().as_deref(), Some("Run all"));
        }
        assert_eq!(select(&["main", "Main"], Some("Main")).unwrap().as_deref(), Some("Main"));
    }

    #[test]
    fn an_open_choice_lists_the_tasks() {
        let error = select(&["A", "B"], None).unwrap_err().to_string();
        assert!(
            error.contains("2 tasks") && error.contains("\"A\", \"B\"") && error.contains("--task"),
            "{error}"
        );
        let error = select(&["A", "B"], Some("C")).unwrap_err().to_string();
        assert!(error.contains("no task \"C\""), "{error}");
        assert!(matches!(select(&["main", "Main"], Some("MAIN")), Err(Error::TaskOpen { .. })));
        let many: Vec<String> = (0..40).map(|number| format!("t{number}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(select(&many, None).unwrap_err().to_string().contains("and 28 more"));
    }
}
