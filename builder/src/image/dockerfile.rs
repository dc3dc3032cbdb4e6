//! A Dockerfile that makes the image that we make, for pipelines which build from one.
//!
//! Its first stage runs `robotimage build`, which unpacks its own layers; the second copies them, one instruction a layer, and
//! repeats the run contract of [`super::run`]. Invariant: pure; equal inputs give equal text, and nothing that a robot's
//! author wrote can leave its quotes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::oci::Run;
use super::{HOME, Role};

/// Folder of the programs in the first stage.
const TOOLS: &str = "/opt/robotimage";
/// Name of the build context with the programs.
pub const TOOLS_CONTEXT: &str = "tools";
/// Name of the build context with the platform's settings.
pub const SETTINGS_CONTEXT: &str = "settings";

/// Where `robotimage` and its launcher come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tools {
    /// The build context [`TOOLS_CONTEXT`].
    Context,
    /// The builder's image.
    Image(String),
}

/// Where rcc comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RccSource {
    /// The build context [`TOOLS_CONTEXT`].
    Context,
    /// A download with its SHA-256 in hexadecimal digits.
    Url {
        /// Its address.
        url: String,
        /// Its checksum.
        sha256: String,
    },
}

/// What the text depends on.
#[derive(Clone, Debug)]
pub struct Dockerfile<'a> {
    /// The base with its digest: `repository[:tag]@sha256:...`.
    pub base: &'a str,
    /// The robot file, relative to the context.
    pub robot_file: &'a str,
    /// The task for Cmd, when one was chosen.
    pub task: Option<&'a str>,
    /// `user:group`.
    pub user: &'a str,
    /// Our run contract, without the base's variables.
    pub run: &'a Run,
    /// Where our programs come from.
    pub tools: &'a Tools,
    /// Where rcc comes from.
    pub rcc: &'a RccSource,
    /// Whether there is a build context with settings.
    pub settings: bool,
}

impl Dockerfile<'_> {
    /// The whole file.
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.head(&mut text);
        self.make(&mut text);
        self.image(&mut text);
        text
    }

    fn head(&self, text: &mut String) {
        let version = env!("CARGO_PKG_VERSION");
        let from_context = *self.tools == Tools::Context || *self.rcc == RccSource::Context;
        let mut contexts = String::new();
        if from_context {
            write!(contexts, " --build-context {TOOLS_CONTEXT}=TOOLS").ok();
        }
        if self.settings {
            write!(contexts, " --build-context {SETTINGS_CONTEXT}=SETTINGS").ok();
        }
        let mut line = |said: &str| {
            writeln!(text, "# {said}").ok();
        };
        line(&format!(
            "The image that `robotimage build` makes, by robotimage {version}; written by `robotimage dockerfile`."
        ));
        line("Build it in the folder with the robot:");
        line(&format!("  buildah build{contexts} --file Dockerfile --tag NAME ."));
        if from_context {
            let mut programs = Vec::new();
            if *self.tools == Tools::Context {
                programs.extend(["robotimage", "robotimage-launcher"]);
            }
            if *self.rcc == RccSource::Context {
                programs.push("rcc");
            }
            line(&format!(
                "TOOLS is a folder with these programs for Linux x86-64: {}.",
                programs.join(", ")
            ));
        }
        if self.settings {
            line("SETTINGS is a folder with settings.yaml, piprc, micromambarc and ca-bundle.pem, each where it is needed.");
        }
        text.push('\n');
    }

    /// The first stage: everything above the base, unpacked.
    fn make(&self, text: &mut String) {
        let mut lines = vec![format!("FROM {} AS robot", self.base), "USER 0:0".to_owned()];
        let mut programs = Vec::new();
        match self.tools {
            Tools::Context => programs.extend(["robotimage", "robotimage-launcher"]),
            Tools::Image(image) => {
                lines.push(format!("COPY --from={image} /usr/local/bin/robotimage {TOOLS}/robotimage"));
                lines.push(format!(
                    "COPY --from={image} /usr/local/lib/robotimage/launcher {TOOLS}/robotimage-launcher"
                ));
            }
        }
        match self.rcc {
            RccSource::Context => programs.push("rcc"),
            RccSource::Url { url, sha256 } => {
                lines.push(format!("ADD {} {TOOLS}/rcc", quoted(url)));
                lines.push(format!(
                    "RUN echo '{sha256}  {TOOLS}/rcc' | sha256sum -c - && chmod 0755 {TOOLS}/rcc"
                ));
            }
        }
        if !programs.is_empty() {
            lines.push(format!("COPY --from={TOOLS_CONTEXT} {} {TOOLS}/", programs.join(" ")));
        }
        if self.settings {
            lines.push(format!("COPY --from={SETTINGS_CONTEXT} . {TOOLS}/settings/"));
        }
        lines.push("COPY . /robot/".to_owned());
        // Where namespaces are forbidden, which is usual here, the environment is made at its own path.
        lines.push(format!("RUN mkdir -p /opt/rcc {HOME}"));
        lines.push(format!("ENV ROBOTIMAGE_CACHE={TOOLS}/cache"));
        let mut words = vec![
            format!("{TOOLS}/robotimage"),
            "build".to_owned(),
            "/robot".to_owned(),
            "--robot".to_owned(),
            self.robot_file.to_owned(),
        ];
        if let Some(task) = self.task {
            words.extend(["--task".to_owned(), task.to_owned()]);
        }
        if self.settings {
            words.extend(["--settings".to_owned(), format!("{TOOLS}/settings")]);
        }
        let rest = [
            "--base-image",
            "rootfs:/",
            "--rcc-exec",
            "/opt/robotimage/rcc",
            "--compression",
            "gzip",
            "--user",
            self.user,
            "--output",
            "tree:/out",
        ];
        words.extend(rest.map(str::to_owned));
        lines.push(format!("RUN {}", list(&words)));
        text.push_str(&lines.join("\n"));
        text.push_str("\n\n");
    }

    /// The second stage: the image.
    fn image(&self, text: &mut String) {
        let mut lines = vec![format!("FROM {}", self.base)];
        for role in Role::ALL.into_iter().filter(|role| *role != Role::Base) {
            lines.push(format!("COPY --from=robot /out/{}/ /", role.as_str()));
        }
        lines.extend(
            self.run
                .labels
                .iter()
                .map(|(name, value)| format!("LABEL {}={}", quoted(name), quoted(value))),
        );
        let pairs: BTreeMap<&str, &str> = self.run.env.iter().filter_map(|variable| variable.split_once('=')).collect();
        lines.extend(pairs.iter().map(|(name, value)| format!("ENV {name}={}", quoted(value))));
        lines.push(format!("USER {}", self.run.user));
        lines.push(format!("WORKDIR {}", quoted(&self.run.working_dir)));
        lines.push(format!("ENTRYPOINT {}", list(&self.run.entrypoint)));
        lines.push(format!("CMD {}", list(&self.run.cmd)));
        text.push_str(&lines.join("\n"));
        text.push('\n');
    }
}

/// A value in double quotes: no variable is put in, and it ends where it should.
fn quoted(value: &str) -> String {
    let mut text = "\"".to_owned();
    for letter in value.chars() {
        match letter {
            '"' | '\\' | '$' => text.extend(['\\', letter]),
            // No instruction goes over a line break.
            letter if letter.is_control() => text.push(' '),
            letter => text.push(letter),
        }
    }
    text + "\""
}

/// The form that no shell reads.
fn list(words: &[String]) -> String {
    serde_json::to_string(words).expect("invariant: texts are JSON")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Run {
        Run {
            user: "1000:0".to_owned(),
            env: vec!["HOME=/home/robot".to_owned(), "RCC_NO_BUILD=1".to_owned()],
            entrypoint: ["/usr/local/bin/rcc", "run", "--robot", "/home/robot/app/robot.yaml"]
                .map(str::to_owned)
                .to_vec(),
            cmd: vec!["--task".to_owned(), "Read \"all\" invoices".to_owned()],
            working_dir: "/home/robot/app".to_owned(),
            labels: BTreeMap::from([(
                "org.opencontainers.image.title".to_owned(),
                "Read \"all\" $invoices\nRUN evil".to_owned(),
            )]),
        }
    }

    fn of(tools: &Tools, rcc: &RccSource, settings: bool) -> String {
        let run = run();
        Dockerfile {
            base: "docker.io/library/debian:bookworm-slim@sha256:0000",
            robot_file: "robot.yaml",
            task: Some("Read \"all\" invoices"),
            user: "1000:0",
            run: &run,
            tools,
            rcc,
            settings,
        }
        .text()
    }

    #[test]
    fn the_text_is_this() {
        insta::assert_snapshot!(of(&Tools::Context, &RccSource::Context, false));
    }

    #[test]
    fn programs_from_elsewhere() {
        let rcc = RccSource::Url {
            url: "https://example.com/rcc".to_owned(),
            sha256: "ab".repeat(32),
        };
        insta::assert_snapshot!(of(
            &Tools::Image("r.example.com/robotimage/builder@sha256:1111".to_owned()),
            &rcc,
            true
        ));
    }

    #[test]
    fn nobody_leaves_the_quotes() {
        for line in of(&Tools::Context, &RccSource::Context, false).lines() {
            assert!(!line.starts_with("RUN evil"), "{line}");
        }
        assert_eq!(quoted("a\"b\\c$d\ne"), "\"a\\\"b\\\\c\\$d e\"");
    }
}
