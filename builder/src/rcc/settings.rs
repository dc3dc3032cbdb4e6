//! What rcc reads before it does anything: its environment and the files in its home.
//!
//! Most environment variables that people expect to work are ignored by rcc or by the tools it drives, so the platform's
//! mirrors, proxies and certificates are written where rcc reads them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use super::error::Error;
use super::user;
use crate::robot::yaml::{self, Node, Value};

/// The platform's settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    endpoints: BTreeMap<String, String>,
    certificates: BTreeMap<String, String>,
    network: BTreeMap<String, String>,
    piprc: Option<String>,
    micromambarc: Option<String>,
    ca_bundle: Option<Vec<u8>>,
    verbose_pip: bool,
}

/// An address that nobody answers. With `disabled:` in these places every `rcc holotree` command ends with 111.
const NOWHERE: &str = "https://127.0.0.1:1/";
/// Largest file of the platform's settings; a CA bundle has some 200 KiB.
const MAX_BYTES: u64 = 4 << 20;
/// Endpoints that decide where packages come from. The others are addresses of services that a build must not call.
const ENDPOINTS: [&str; 4] = ["pypi", "pypi-trusted", "conda", "uv-releases"];
const CERTIFICATES: [&str; 3] = ["verify-ssl", "ssl-no-revoke", "legacy-renegotiation-allowed"];
const NETWORK: [&str; 3] = ["http-proxy", "https-proxy", "no-proxy"];

impl Settings {
    /// Reads the platform's folder: `settings.yaml`, `piprc`, `micromambarc`, `ca-bundle.pem`, all of them optional.
    pub(crate) fn read(platform: &Path) -> Result<Self, Error> {
        let mut settings = Self {
            piprc: read_text(platform, "piprc")?,
            micromambarc: read_text(platform, "micromambarc")?,
            ca_bundle: read(platform, "ca-bundle.pem")?,
            ..Self::default()
        };
        if let Some(text) = read_text(platform, "settings.yaml")? {
            settings.take(&text)?;
        }
        Ok(settings)
    }

    fn take(&mut self, text: &str) -> Result<(), Error> {
        let invalid = |problem: String| Error::Settings {
            file: "settings.yaml".to_owned(),
            problem,
        };
        let document = yaml::read(text).map_err(|problem| invalid(format!("line {}: {}", problem.line, problem.message)))?;
        if !matches!(document.value, Value::Mapping(_) | Value::Null) {
            return Err(invalid(format!("it must be a mapping, and is {}", document.kind())));
        }
        let sections: [(&str, &[&str], &mut BTreeMap<String, String>); 3] = [
            ("endpoints", &ENDPOINTS, &mut self.endpoints),
            ("certificates", &CERTIFICATES, &mut self.certificates),
            ("network", &NETWORK, &mut self.network),
        ];
        for (name, keys, target) in sections {
            for (key, value) in document.get(name).map(Node::pairs).unwrap_or_default() {
                let (Some(key), Some(value)) = (key.text(), value.text()) else {
                    return Err(invalid(format!("line {}: {name} must hold texts only", key.line)));
                };
                if keys.contains(&key) && !value.is_empty() {
                    target.insert(key.to_owned(), value.to_owned());
                }
            }
        }
        Ok(())
    }

    /// Makes pip tell what its index answered.
    pub(crate) fn verbose(mut self) -> Self {
        self.verbose_pip = true;
        self
    }

    /// What of it decides which packages are found, by name; certificates and proxies only decide whether they are reached.
    pub(crate) fn mirrors(&self) -> BTreeMap<String, String> {
        let mut mirrors = self.endpoints.clone();
        for (name, text) in [("piprc", &self.piprc), ("micromambarc", &self.micromambarc)] {
            if let Some(text) = text {
                mirrors.insert(name.to_owned(), text.clone());
            }
        }
        mirrors
    }

    /// Texts that may hold credentials, which have no place there.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &str> {
        let files = [&self.piprc, &self.micromambarc].into_iter().flatten();
        self.endpoints.values().chain(files).map(String::as_str)
    }

    /// Writes them into a home of rcc, replacing what is there.
    pub(crate) fn write(&self, rcc_home: &Path) -> Result<(), Error> {
        let put = |name: &str, content: Option<&[u8]>| {
            let path = rcc_home.join(name);
            let done = match content {
                Some(content) => fs::write(&path, content),
                None => match fs::remove_file(&path) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                    done => done,
                },
            };
            done.map_err(|source| Error::Io {
                action: "write",
                path,
                source,
            })
        };
        let name = user::current().map_err(|source| Error::Io {
            action: "read",
            path: "/etc/passwd".into(),
            source,
        })?;
        put(user::FILE, Some(user::registered(&name).as_bytes()))?;
        put("settings.yaml", Some(self.yaml().as_bytes()))?;
        put("piprc", Some(self.pip_configuration().as_bytes()))?;
        put("micromambarc", self.micromambarc.as_deref().map(str::as_bytes))?;
        put("ca-bundle.pem", self.ca_bundle.as_deref())
    }

    /// JSON is YAML, and quotes by rules that need no care.
    fn yaml(&self) -> String {
        let mut endpoints = self.endpoints.clone();
        endpoints.insert("telemetry".to_owned(), "disabled:".to_owned());
        for name in ["cloud-api", "downloads"] {
            endpoints.insert(name.to_owned(), NOWHERE.to_owned());
        }
        let truth = |(name, text): (&String, &String)| (name.clone(), matches!(text.to_lowercase().as_str(), "true" | "yes" | "on"));
        let certificates: BTreeMap<String, bool> = self.certificates.iter().map(truth).collect();
        let mut settings = serde_json::json!({"endpoints": endpoints, "network": self.network});
        if !certificates.is_empty() {
            settings["certificates"] = serde_json::json!(certificates);
        }
        serde_json::to_string_pretty(&settings).expect("invariant: texts are JSON") + "\n"
    }

    /// The platform's piprc with what a build needs in its `[global]`: never ask, never look for a newer pip, and leave
    /// bytecode to us, who compile all of it anew.
    fn pip_configuration(&self) -> String {
        let mut ours = "no-input = true\ndisable-pip-version-check = true\ncompile = false\n".to_owned();
        if self.verbose_pip {
            ours.push_str("verbose = 2\n");
        }
        let Some(theirs) = &self.piprc else {
            return format!("[global]\n{ours}");
        };
        let mut text = String::new();
        let mut placed = false;
        for line in theirs.lines() {
            let key = line.split(['=', ':']).next().unwrap_or_default().trim();
            if matches!(key, "no-input" | "disable-pip-version-check" | "compile" | "verbose") {
                continue;
            }
            text.push_str(line);
            text.push('\n');
            if line.trim() == "[global]" && !placed {
                text.push_str(&ours);
                placed = true;
            }
        }
        if !placed {
            text = format!("[global]\n{ours}\n{text}");
        }
        text
    }
}

/// The fixed environment of rcc. Nothing of ours is passed on.
pub(crate) fn environment(rcc_home: &Path, home: &Path, temp: &Path) -> Vec<(OsString, OsString)> {
    let texts = [
        ("USER", user::FALLBACK),
        ("LOGNAME", user::FALLBACK),
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("LANG", "C.UTF-8"),
        ("TZ", "UTC"),
        // Otherwise a random path lands in every RECORD.
        ("RCC_NO_PYC_MANAGEMENT", "1"),
        ("RCC_NO_TEMP_MANAGEMENT", "1"),
        ("RCC_AUTOUPDATES_RCC_INDEX", "disabled:"),
        ("PIP_DISABLE_PIP_VERSION_CHECK", "1"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("PYTHONHASHSEED", "0"),
        ("SOURCE_DATE_EPOCH", "315619200"),
    ];
    let paths = [("HOME", home), ("ROBOCORP_HOME", rcc_home), ("TMPDIR", temp)];
    let texts = texts.into_iter().map(|(name, value)| (name.into(), value.into()));
    texts
        .chain(paths.into_iter().map(|(name, path)| (name.into(), path.into())))
        .collect()
}

fn read(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, Error> {
    let path = folder.join(name);
    let unreadable = |source| Error::Io {
        action: "read",
        path: path.clone(),
        source,
    };
    // ConfigMap volumes show their files through links, so links are followed here.
    match fs::metadata(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
        Ok(metadata) if metadata.len() > MAX_BYTES || !metadata.is_file() => {
            return Err(Error::Settings {
                file: name.to_owned(),
                problem: "it is no file, or larger than 4 MiB".to_owned(),
            });
        }
        Ok(_) => {}
    }
    fs::read(&path).map(Some).map_err(unreadable)
}

fn read_text(folder: &Path, name: &str) -> Result<Option<String>, Error> {
    let Some(bytes) = read(folder, name)? else { return Ok(None) };
    String::from_utf8(bytes).map(Some).map_err(|_| Error::Settings {
        file: name.to_owned(),
        problem: "it is not UTF-8 text".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn merges_what_decides_and_drops_what_calls_home() {
        let folder = platform(&[
            (
                "settings.yaml",
                "endpoints:\n  pypi: https://pypi.example.com/simple/\n  telemetry: https://t.example.com\n  downloads: https://d.example.com\nnetwork: {https-proxy: 'http://proxy:3128'}\ncertificates: {verify-ssl: true}\nautoupdates: {rcc-index: https://x}\n",
            ),
            (
                "piprc",
                "[install]\nindex-url = https://i.example.com\n[global]\nno-input = false\ntimeout = 5\n",
            ),
            ("ca-bundle.pem", "CA"),
        ]);
        let home = tempfile::tempdir().unwrap();
        fs::write(home.path().join("micromambarc"), "left over").unwrap();
        let settings = Settings::read(folder.path()).unwrap();
        settings.write(home.path()).unwrap();
        let read = |name: &str| fs::read_to_string(home.path().join(name));
        let written: serde_json::Value = serde_json::from_str(&read("settings.yaml").unwrap()).unwrap();
        assert_eq!(
            written,
            serde_json::json!({
                "certificates": {"verify-ssl": true},
                "endpoints": {
                    "pypi": "https://pypi.example.com/simple/",
                    "telemetry": "disabled:", "cloud-api": "https://127.0.0.1:1/", "downloads": "https://127.0.0.1:1/"
                },
                "network": {"https-proxy": "http://proxy:3128"}
            })
        );
        assert_eq!(
            read("piprc").unwrap(),
            "[install]\nindex-url = https://i.example.com\n[global]\nno-input = true\ndisable-pip-version-check = true\ncompile = false\ntimeout = 5\n"
        );
        assert_eq!(read("ca-bundle.pem").unwrap(), "CA");
        assert!(read("micromambarc").is_err());
        let names: Vec<String> = settings.mirrors().into_keys().collect();
        assert_eq!(names, ["piprc", "pypi"]);
    }

    #[test]
    fn a_bad_file_is_named() {
        for (text, said) in [
            ("[", "line 1"),
            ("- a\n", "must be a mapping"),
            ("endpoints: {pypi: [a]}\n", "texts only"),
        ] {
            let folder = platform(&[("settings.yaml", text)]);
            let error = Settings::read(folder.path()).unwrap_err().to_string();
            assert!(error.contains("settings.yaml") && error.contains(said), "{error}");
        }
        assert!(Settings::read(Path::new("/nonexistent")).unwrap().mirrors().is_empty());
    }

    #[test]
    fn the_environment_is_fixed() {
        let environment = environment(Path::new("/opt/rcc"), Path::new("/home/robot"), Path::new("/opt/rcc/tmp"));
        let get = |name: &str| {
            environment
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.to_str().unwrap())
        };
        assert_eq!(get("HOME"), Some("/home/robot"));
        assert_eq!(get("TMPDIR"), Some("/opt/rcc/tmp"));
        assert_eq!(get("SSL_CERT_FILE"), None);
        assert_eq!(environment.len(), 15);
    }
}
