//! The command line described by itself: completion scripts, manual pages, and the reference in docs/cli.md.
//!
//! Invariant: everything here is made from the arguments that the program really parses, so that it cannot drift.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, Args, Command, CommandFactory as _, ValueEnum};
use clap_complete::Shell;
use robotimage_crds::reason::Reason;

use super::args::Cli;
use super::output::{failed, print};
use crate::failure::Failure;

/// The shells for which there is a script.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// GNU bash, with bash-completion.
    Bash,
    /// zsh.
    Zsh,
    /// fish.
    Fish,
    /// Windows `PowerShell` and `pwsh`.
    #[value(name = "powershell")]
    PowerShell,
}

#[derive(Args, Debug)]
pub(super) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum, value_name = "SHELL")]
    shell: Dialect,
}

#[derive(Args, Debug)]
pub(super) struct ManArgs {
    /// Folder to write robotimage.1 and a page for each command to; without it, robotimage.1 goes to standard output.
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// `robotimage completions`.
pub(super) fn completions(args: &CompletionsArgs) -> u8 {
    print(&script(args.shell));
    0
}

fn script(shell: Dialect) -> String {
    let shell = match shell {
        Dialect::Bash => Shell::Bash,
        Dialect::Zsh => Shell::Zsh,
        Dialect::Fish => Shell::Fish,
        Dialect::PowerShell => Shell::PowerShell,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut public(), "robotimage", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// `robotimage man`.
pub(super) fn man(args: &ManArgs) -> u8 {
    let pages = pages();
    let Some(dir) = &args.dir else {
        print(&pages[0].1);
        return 0;
    };
    let write = |path: &Path, text: &str| std::fs::write(path, text).map_err(|error| Failure::io("write", path, &error));
    let written = std::fs::create_dir_all(dir)
        .map_err(|error| Failure::io("make", dir, &error))
        .and_then(|()| pages.iter().try_for_each(|(name, text)| write(&dir.join(name), text)));
    match written {
        Ok(()) => {
            let written: Vec<String> = pages.iter().map(|(name, _)| dir.join(name).display().to_string()).collect();
            print(&(written.join("\n") + "\n"));
            0
        }
        Err(failure) => failed(&failure, false),
    }
}

/// Names and texts of the manual pages, that of the program itself first.
fn pages() -> Vec<(String, String)> {
    let whole = public();
    // Built commands know the name that they are called by in full.
    let commands = whole
        .get_subcommands()
        .map(|command| (format!("robotimage-{}.1", command.get_name()), page(command.clone())));
    std::iter::once(("robotimage.1".to_owned(), page(whole.clone())))
        .chain(commands)
        .collect()
}

fn page(command: Command) -> String {
    let mut text = Vec::new();
    let command = command.version(env!("CARGO_PKG_VERSION"));
    clap_mangen::Man::new(command)
        .render(&mut text)
        .expect("invariant: writing to memory does not fail");
    String::from_utf8_lossy(&text).into_owned()
}

/// The program without the steps of a pod, which are not for people.
fn public() -> Command {
    let whole = Cli::command();
    let hidden: Vec<String> = whole
        .get_subcommands()
        .filter(|command| command.is_hide_set())
        .map(|command| command.get_name().to_owned())
        .collect();
    let mut bare = Command::new("robotimage")
        .version(env!("CARGO_PKG_VERSION"))
        .about(whole.get_about().cloned().unwrap_or_default())
        .after_help(whole.get_after_help().cloned().unwrap_or_default())
        .subcommand_required(true)
        .disable_help_subcommand(true);
    for command in whole
        .get_subcommands()
        .filter(|command| !hidden.contains(&command.get_name().to_owned()))
    {
        bare = bare.subcommand(command.clone());
    }
    bare.build();
    bare
}

/// The reference of all commands and their arguments, as Markdown: the generated part of docs/cli.md.
pub fn reference() -> String {
    let mut text = String::new();
    for command in public().get_subcommands() {
        let name = command.get_name();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let mut parts = vec![format!("robotimage {name}")];
        if command.get_arguments().any(|argument| !argument.is_positional()) {
            parts.push("[OPTIONS]".to_owned());
        }
        parts.extend(command.get_positionals().map(|argument| {
            let value = value(argument);
            if argument.is_required_set() { value } else { format!("[{value}]") }
        }));
        writeln!(text, "### robotimage {name}\n{about}.\n\n```\n{}\n```\n", parts.join(" ")).ok();
        text.push_str("| argument | default | meaning |\n|---|---|---|\n");
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            text.push_str(&row(argument));
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text + "\n"
}

fn value(argument: &Arg) -> String {
    let names = argument.get_value_names().unwrap_or_default();
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn row(argument: &Arg) -> String {
    let takes_value = matches!(argument.get_action(), ArgAction::Set | ArgAction::Append);
    let mut names: Vec<String> = Vec::new();
    names.extend(argument.get_short().map(|short| format!("-{short}")));
    names.extend(argument.get_long().map(|long| format!("--{long}")));
    let shown = match (names.is_empty(), takes_value) {
        (true, _) => value(argument),
        (false, true) => format!("{} {}", names.join(", "), value(argument)),
        (false, false) => names.join(", "),
    };
    let quoted = |texts: Vec<String>| texts.iter().map(|text| format!("`{text}`")).collect::<Vec<_>>().join(", ");
    let default = if takes_value {
        quoted(
            argument
                .get_default_values()
                .iter()
                .map(|value| value.to_string_lossy().into_owned())
                .collect(),
        )
    } else {
        String::new()
    };
    let mut meaning = argument.get_help().map(ToString::to_string).unwrap_or_default();
    if !meaning.is_empty() && !meaning.ends_with('.') {
        meaning.push('.');
    }
    let values = argument.get_possible_values();
    if takes_value && !values.is_empty() {
        let values = values.iter().map(|value| value.get_name().to_owned()).collect();
        write!(meaning, " One of {}.", quoted(values)).ok();
    }
    if let Some(variable) = argument.get_env() {
        write!(meaning, " Variable: `{}`.", variable.to_string_lossy()).ok();
    }
    format!(
        "| `{}` | {default} | {} |\n",
        shown.replace('|', "\\|"),
        meaning.replace('|', "\\|")
    )
}

/// What each reason means and what to do about it, as Markdown: the generated part of docs/troubleshooting.md.
pub fn failures() -> String {
    let mut text = "| reason | who can mend it | tried again | exit code | meaning | what to do |\n|---|---|---|---|---|---|\n".to_owned();
    for reason in Reason::ALL {
        let retryable = if reason.retryable() { "yes" } else { "no" };
        let (owner, exit) = (reason.owner().as_str(), reason.exit_code());
        let (meaning, advice) = (reason.meaning().replace('|', "\\|"), reason.advice().replace('|', "\\|"));
        writeln!(text, "| `{reason}` | {owner} | {retryable} | {exit} | {meaning} | {advice} |").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_public_command_is_everywhere() {
        let reference = reference();
        let pages = pages();
        for name in ["build", "check", "plan", "inspect", "dockerfile", "completions", "man"] {
            assert!(reference.contains(&format!("### robotimage {name}\n")), "{name}");
            let page = pages.iter().find(|(page, _)| *page == format!("robotimage-{name}.1"));
            assert!(page.is_some_and(|(_, text)| text.contains(".SH SYNOPSIS")), "{name}");
            for shell in [Dialect::Bash, Dialect::Zsh, Dialect::Fish, Dialect::PowerShell] {
                assert!(script(shell).contains(name), "{name}");
            }
        }
        assert!(pages[0].1.contains("Exit codes"), "{}", pages[0].1);
        assert!(!reference.contains("robotimage fetch") && pages.len() == 8);
        assert!(!script(Dialect::Bash).contains("publish"), "steps are not for people");
    }

    #[test]
    fn every_reason_has_a_row() {
        let table = failures();
        for reason in Reason::ALL {
            assert!(table.contains(&format!("| `{reason}` |")), "{reason}");
        }
    }
}
