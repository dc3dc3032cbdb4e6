//! What a shell offers: scripts for the plugin under its own name, and candidates for kubectl, which asks a program named
//! `kubectl_complete-robotimage` for them.
//!
//! Invariant: completing never fails aloud: who cannot reach the cluster gets no names.

use std::time::Duration;

use clap::{Arg, Command, CommandFactory as _, ValueEnum};
use clap_complete::Shell;

use crate::arguments::{Arguments, ConnectionArguments};
use crate::cluster::{Cluster, Listed};
use crate::error::Error;
use crate::out::Out;

/// Time for names: somebody has pressed a key and waits.
const PATIENCE: Duration = Duration::from_secs(3);
/// Tells kubectl not to offer files.
const NO_FILES: &str = ":4";
/// What kubectl runs.
const FOR_KUBECTL: &str = "#!/bin/sh\n# kubectl_complete-robotimage, in a folder of PATH and executable: kubectl asks it for candidates.\nexec kubectl-robotimage __complete \"$@\"\n";

/// Whom a script is for.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// `kubectl-robotimage` in bash.
    Bash,
    /// In elvish.
    Elvish,
    /// In fish.
    Fish,
    /// In PowerShell.
    Powershell,
    /// In zsh.
    Zsh,
    /// `kubectl robotimage` in every shell that completes kubectl: save it as kubectl_complete-robotimage.
    Kubectl,
}

/// The script.
pub(crate) fn script(target: Target) -> String {
    let shell = match target {
        Target::Bash => Shell::Bash,
        Target::Elvish => Shell::Elvish,
        Target::Fish => Shell::Fish,
        Target::Powershell => Shell::PowerShell,
        Target::Zsh => Shell::Zsh,
        Target::Kubectl => return FOR_KUBECTL.to_owned(),
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "kubectl-robotimage", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

/// Prints candidates for the last of these words, as kubectl reads them.
pub(crate) async fn complete(words: &[String]) -> Result<u8, Error> {
    let candidates = match wanted(words) {
        Wanted::These(candidates) => candidates,
        Wanted::Names(beginning) => {
            let names = tokio::time::timeout(PATIENCE, names(words)).await;
            let names = names.ok().and_then(Result::ok).unwrap_or_default();
            names.into_iter().filter(|name| name.starts_with(&beginning)).collect()
        }
    };
    let mut lines = candidates;
    lines.push(NO_FILES.to_owned());
    Out::text(&(lines.join("\n") + "\n"))?;
    Ok(0)
}

async fn names(words: &[String]) -> Result<Vec<String>, Error> {
    let cluster = Cluster::connect(&connection(words)).await?;
    let listed = cluster.list(false, None).await?;
    let names = listed.into_iter().map(|one| match one {
        Listed::Known(resource) => format!("{}\t{}", resource.name(), resource.summary()),
        Listed::Unreadable { name, .. } => name,
    });
    Ok(names.collect())
}

/// What fits in the place of the last word.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// One of these.
    These(Vec<String>),
    /// A RobotImage whose name begins so.
    Names(String),
}

fn wanted(words: &[String]) -> Wanted {
    let root = Arguments::command();
    let (last, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", &[][..]),
    };
    let mut chosen: Option<&Command> = None;
    let mut positionals = 0;
    // The flag whose value comes next.
    let mut open: Option<&Arg> = None;
    for word in before {
        if open.take().is_some() {
            continue;
        }
        if word.starts_with('-') {
            open = flag(&root, chosen, word)
                .filter(|_| !word.contains('='))
                .filter(|flag| takes_value(flag));
        } else if chosen.is_none() {
            chosen = root.find_subcommand(word);
        } else {
            positionals += 1;
        }
    }
    let begins = |line: &String| line.starts_with(last);
    if let Some(flag) = open {
        let values = flag.get_possible_values();
        return Wanted::These(values.iter().map(|value| value.get_name().to_owned()).filter(begins).collect());
    }
    if last.starts_with('-') {
        let flags = chosen.into_iter().chain([&root]).flat_map(Command::get_arguments);
        let lines = flags.filter_map(|flag| {
            let help = flag.get_help().map(ToString::to_string).unwrap_or_default();
            flag.get_long().map(|long| format!("--{long}\t{help}"))
        });
        return Wanted::These(lines.filter(begins).collect());
    }
    let Some(command) = chosen else {
        let commands = root.get_subcommands().filter(|command| !command.is_hide_set());
        let lines = commands.map(|command| {
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            format!("{}\t{about}", command.get_name())
        });
        return Wanted::These(lines.filter(begins).collect());
    };
    match command.get_positionals().nth(positionals) {
        Some(argument) if argument.get_id() == "name" => Wanted::Names(last.to_owned()),
        Some(argument) => {
            let values = argument.get_possible_values();
            Wanted::These(values.iter().map(|value| value.get_name().to_owned()).filter(begins).collect())
        }
        None => Wanted::These(Vec::new()),
    }
}

fn flag<'a>(root: &'a Command, chosen: Option<&'a Command>, word: &str) -> Option<&'a Arg> {
    let name = word.split('=').next().unwrap_or(word);
    let mut flags = chosen.into_iter().chain([root]).flat_map(Command::get_arguments);
    flags.find(|flag| match name.strip_prefix("--") {
        Some(long) => flag.get_long() == Some(long),
        None => flag.get_short().is_some_and(|short| name == format!("-{short}")),
    })
}

fn takes_value(flag: &Arg) -> bool {
    flag.get_action().takes_values()
}

/// Where the cluster is, from words that need not be a whole command line yet.
fn connection(words: &[String]) -> ConnectionArguments {
    let value = |names: &[&str]| {
        words.iter().enumerate().find_map(|(place, word)| match word.split_once('=') {
            Some((name, value)) if names.contains(&name) => Some(value.to_owned()),
            _ if names.contains(&word.as_str()) => words.get(place + 1).cloned(),
            _ => None,
        })
    };
    ConnectionArguments {
        namespace: value(&["-n", "--namespace"]),
        context: value(&["--context"]),
        kubeconfig: value(&["--kubeconfig"]).map(Into::into),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    fn offered(line: &str) -> Vec<String> {
        match wanted(&words(line)) {
            Wanted::These(lines) => lines
                .iter()
                .map(|line| line.split('\t').next().unwrap_or(line).to_owned())
                .collect(),
            Wanted::Names(beginning) => vec![format!("NAME {beginning}")],
        }
    }

    #[test]
    fn what_fits_is_offered() {
        assert_eq!(offered("s"), ["status", "suspend"]);
        assert_eq!(offered("status inv"), ["NAME inv"]);
        assert_eq!(offered("-n finance logs "), ["NAME "]);
        assert_eq!(offered("logs invoices --step "), ["fetch", "resolve", "publish"]);
        assert_eq!(offered("logs invoices --f"), ["--follow"]);
        assert_eq!(offered("status -o j"), ["json"]);
        assert_eq!(offered("status invoices "), Vec::<String>::new());
        assert_eq!(offered("logs --namespace=finance in"), ["NAME in"]);
        assert!(!offered("").contains(&"__complete".to_owned()));
        assert!(wanted(&[]) == wanted(&words("")));
    }

    #[test]
    fn the_cluster_is_found_in_half_a_line() {
        let found = connection(&words("logs -n finance --context=prod --kubeconfig /k x"));
        assert_eq!(found.namespace.as_deref(), Some("finance"));
        assert_eq!(found.context.as_deref(), Some("prod"));
        assert_eq!(found.kubeconfig, Some("/k".into()));
        assert_eq!(connection(&words("logs -n")).namespace, None);
    }

    #[test]
    fn every_target_has_a_script() {
        for target in Target::value_variants() {
            assert!(script(*target).contains("kubectl-robotimage"), "{target:?}");
        }
    }
}
