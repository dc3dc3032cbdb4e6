//! What the documents list is what the code says: reasons, exit codes, fields of the API, values of the chart, commands.
//!
//! `UPDATE_GOLDEN=1` (or `make golden`) rewrites the lists between their marks.

#![allow(clippy::unwrap_used, reason = "helpers of tests, too, end with what went wrong")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use robotimage_crds::reason::{Reason, Retry};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// One cell of a Markdown table.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|")
}

/// The text between the marks of `name`, and all before and behind it.
fn section<'a>(text: &'a str, name: &str) -> (&'a str, &'a str, &'a str) {
    let begin = format!("<!-- generated: {name} -->\n");
    let start = text.find(&begin).unwrap_or_else(|| panic!("the document lacks {begin}")) + begin.len();
    let end = start + text[start..].find("<!-- end -->").unwrap_or_else(|| panic!("{name} has no end"));
    (&text[..start], &text[start..end], &text[end..])
}

/// Compares the generated list of this name with what stands in the document, or writes it.
fn check_in(path: &str, name: &str, wanted: &str) {
    let text = read(path);
    let (before, found, behind) = section(&text, name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(root().join(path), format!("{before}{wanted}{behind}")).unwrap();
    } else {
        assert_eq!(found, wanted, "the list of {name} in {path} is old: run `make golden`");
    }
}

fn check(name: &str, wanted: &str) {
    check_in("docs/reference.md", name, wanted);
}

fn reasons() -> String {
    let mut text = "| reason | owner | tried again | exit code | meaning |\n|---|---|---|---|---|\n".to_owned();
    for reason in Reason::ALL {
        let retry = match reason.retry() {
            Retry::Never => "no",
            Retry::Slowly => "slowly",
            Retry::Backoff => "yes",
        };
        let (owner, exit) = (reason.owner().as_str(), reason.exit_code());
        let meaning = cell(reason.meaning());
        writeln!(text, "| `{reason}` | {owner} | {retry} | {exit} | {meaning} |").unwrap();
    }
    text
}

/// One row a field that is no group of fields, in the order of the schema.
fn fields(schema: &Value, path: &str, text: &mut String) {
    let required: BTreeSet<&str> = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, child) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let kind = match child["type"].as_str() {
            Some("array") => format!("list of {}", child["items"]["type"].as_str().unwrap_or("objects")),
            Some("object") if child["additionalProperties"].is_object() => "map".to_owned(),
            Some(kind) => kind.to_owned(),
            None => "quantity".to_owned(),
        };
        let kind = kind.replace("list of object", "list of objects");
        let must = if required.contains(name.as_str()) { ", required" } else { "" };
        let description = cell(child["description"].as_str().unwrap_or_default());
        if child.get("properties").is_none() || !description.is_empty() {
            writeln!(text, "| `{path}` | {kind}{must} | {description} |").unwrap();
        }
        fields(child, &path, text);
    }
}

fn definition() -> Value {
    let definition: Value = serde_saphyr::from_str(&read("crds/robotimages.yaml")).unwrap();
    definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"].clone()
}

fn table(schema: &Value, path: &str) -> String {
    let mut text = "| field | type | meaning |\n|---|---|---|\n".to_owned();
    fields(schema, path, &mut text);
    text
}

#[test]
fn the_lists_of_the_reference_are_what_the_code_says() {
    check("reasons", &reasons());
    let definition = definition();
    check("spec", &table(&definition["spec"], "spec"));
    check("status", &table(&definition["status"], "status"));
    let values: Value = serde_json::from_str(&read("charts/robotimage/values.schema.json")).unwrap();
    let table = table(&values, "").replace("| field |", "| value |");
    let mut own = String::new();
    for line in table.lines().filter(|line| !line.starts_with("| `global`")) {
        own.push_str(line);
        own.push('\n');
    }
    check("values", &own);
}

/// What is made of each recorded output, from the golden table beside the rules.
fn recorded() -> String {
    let golden = read("builder/src/rcc/output/snapshots/robotimage_builder__rcc__output__recorded__what_is_said_of_each_is_this.snap");
    let (_, table) = golden.trim_start_matches("---").split_once("---\n").expect("a head and a table");
    let mut text = "| what was broken | reason | what is said | what to do |\n|---|---|---|---|\n".to_owned();
    let lines: Vec<&str> = table.lines().collect();
    let mut seen = BTreeSet::new();
    for recording in lines.chunks(5) {
        let [head, judged, place, what, advice] = recording else {
            panic!("a recording has five lines, and this one has not: {recording:?}")
        };
        let (name, fault) = head.split_once(": ").expect("a name and what was broken");
        // Where pip does not say why it found nothing, it is asked again, and does.
        if name.starts_with("pip-silent") {
            continue;
        }
        let reason = judged.trim().split(',').next().unwrap();
        let place = match place.trim() {
            "-" => String::new(),
            place => format!("{place}: "),
        };
        // Both versions of rcc say the same.
        if seen.insert(name.trim_start_matches("17-")) {
            let said = cell(&format!("{place}{}", what.trim()));
            writeln!(text, "| {} | `{reason}` | {said} | {} |", cell(fault), cell(advice)).unwrap();
        }
    }
    text
}

#[test]
fn commands_and_failures_are_what_the_code_says() {
    check_in("docs/cli.md", "commands", &robotimage_builder::cli::reference());
    check_in("docs/troubleshooting.md", "failures", &robotimage_builder::cli::failures());
    check_in("docs/troubleshooting.md", "recorded", &recorded());
}

#[test]
fn the_exit_codes_of_the_reference_are_those_of_the_reasons() {
    let text = read("docs/reference.md");
    let chapter = text
        .split("\n## ")
        .find(|chapter| chapter.starts_with("Exit codes"))
        .expect("a chapter on exit codes");
    let told: BTreeSet<u8> = chapter
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|row| row.split_whitespace().next()?.parse().ok())
        .collect();
    // Done, and a command line that cannot be understood, have no reason.
    let used: BTreeSet<u8> = Reason::ALL.iter().map(|reason| reason.exit_code()).chain([0, 2]).collect();
    assert_eq!(told, used);
}

/// A link to a file that is not there, or to a heading that a file does not have, is found here and not by a reader.
#[test]
fn links_between_documents_lead_somewhere() {
    let documents: Vec<PathBuf> = ["docs", "docs/runbooks"]
        .iter()
        .flat_map(|folder| fs::read_dir(root().join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "md"))
        .chain([root().join("README.md")])
        .collect();
    let mut broken = Vec::new();
    for document in &documents {
        let text = fs::read_to_string(document).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() {
                document.clone()
            } else {
                document.parent().unwrap().join(file)
            };
            let found = if heading.is_empty() {
                target.exists()
            } else {
                fs::read_to_string(&target).is_ok_and(|text| text.lines().any(|line| line.starts_with('#') && anchor(line) == heading))
            };
            if !found {
                broken.push(format!("{}: {link}", document.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

/// The anchor that GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}
