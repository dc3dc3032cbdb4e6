//! The environment key: everything that decides which bytes a resolve gives.
//!
//! Invariant: the struct is closed. What is not in it cannot influence a resolve, and a new influence is a new field, which
//! changes every key once.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use serde::Serialize;
use sha2::{Digest, Sha256};

/// The inputs of an environment. Serialised in this order; the maps are sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KeyInputs {
    /// [`Specification::canonical`](crate::robot::environment::Specification::canonical) of the environment file.
    pub environment: String,
    /// rcc's own hash of the file. It cannot stand alone: it has 64 bits and public keys.
    pub blueprint: String,
    /// Content of the freeze file in use.
    pub freeze: Option<String>,
    /// SHA-256 of each local file that the environment file names, by its path in the context.
    pub local_files: BTreeMap<String, String>,
    /// For example `linux/amd64`.
    pub platform: String,
    /// Version of the base's glibc.
    pub glibc: String,
    /// [`archspec`] of the CPU that resolves: solvers look at it, and it cannot be overridden.
    pub archspec: String,
    /// SHA-256 of the rcc binary.
    pub rcc_digest: String,
    /// Digest of the builder image, or version of this program: the resolve step runs on its libraries.
    pub builder_digest: String,
    /// [`mirrors`](super::mirrors): what of the platform's settings decides where packages come from.
    pub mirrors: BTreeMap<String, String>,
    /// Variables that the resolve step sees.
    pub variables: BTreeMap<String, String>,
    /// Whether bytecode is compiled into it.
    pub bytecode: bool,
    /// Digest of a foreign catalog in its place.
    pub catalog: Option<String>,
    /// Recipe of the codec, with level, block and split.
    pub codec: String,
    /// Where it is sealed.
    pub sealed_path: String,
    /// Version of the recipe.
    pub compatibility: u32,
    /// When it was last to be solved anew, in seconds since 1970 UTC; 0 for never.
    pub refresh: u64,
    /// Digest of the base, where every new base is to get packages of its own. Left out otherwise, so that keys stay what
    /// they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

/// SHA-256 of the inputs, 64 hexadecimal digits.
pub fn key(inputs: &KeyInputs) -> String {
    let mut hash = Sha256::new();
    hash.update("robotimage environment key 1\n");
    hash.update(serde_json::to_vec(inputs).expect("invariant: texts, numbers and sorted maps are JSON"));
    hex::encode(hash.finalize())
}

/// The level of this machine's CPU, `x86_64` to `x86_64_v4`, as package solvers name it.
pub fn archspec() -> Result<String, io::Error> {
    Ok(level(&fs::read_to_string("/proc/cpuinfo")?).to_owned())
}

/// The level of the first CPU of a `/proc/cpuinfo`.
fn level(cpuinfo: &str) -> &'static str {
    const V2: [&str; 6] = ["cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"];
    const V3: [&str; 7] = ["avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe"];
    const V4: [&str; 5] = ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"];
    let flags: Vec<&str> = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("flags")?.split_once(':'))
        .map(|(_, flags)| flags.split_whitespace().collect())
        .unwrap_or_default();
    let has = |wanted: &[&str]| wanted.iter().all(|flag| flags.contains(flag));
    let abm = flags.contains(&"abm") || flags.contains(&"lzcnt");
    match (has(&V2), has(&V3) && abm, has(&V4)) {
        (true, true, true) => "x86_64_v4",
        (true, true, false) => "x86_64_v3",
        (true, false, _) => "x86_64_v2",
        (false, _, _) => "x86_64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs() -> KeyInputs {
        KeyInputs {
            environment: "{\"name\":\"\"}".to_owned(),
            blueprint: "873a70b30de4a4c9".to_owned(),
            local_files: BTreeMap::from([("libs/x.whl".to_owned(), "0".repeat(64))]),
            platform: "linux/amd64".to_owned(),
            glibc: "2.36".to_owned(),
            archspec: "x86_64_v3".to_owned(),
            rcc_digest: "1".repeat(64),
            builder_digest: "sha256:2".to_owned(),
            mirrors: BTreeMap::from([("pypi".to_owned(), "https://pypi.example.com/".to_owned())]),
            bytecode: true,
            codec: "zstd".to_owned(),
            sealed_path: super::super::SEALED_PATH.to_owned(),
            compatibility: 1,
            ..KeyInputs::default()
        }
    }

    #[test]
    fn golden() {
        // A change of this value makes every environment be resolved again: raise it on purpose only.
        assert_eq!(key(&inputs()), "ae16e700a6176e5f5778f832f7de0b8a1e6c2ddc8edf40b749f1ee47d22707c1");
    }

    #[test]
    fn every_field_counts() {
        let text = serde_json::to_value(inputs()).unwrap();
        // The base is left out while it says nothing.
        let fields = text.as_object().unwrap().len() + 1;
        let changes: [fn(&mut KeyInputs); 18] = [
            |k| k.environment.push('x'),
            |k| k.blueprint.push('x'),
            |k| k.freeze = Some(String::new()),
            |k| k.local_files.clear(),
            |k| k.platform.push('x'),
            |k| k.glibc.push('x'),
            |k| k.archspec.push('x'),
            |k| k.rcc_digest.push('x'),
            |k| k.builder_digest.push('x'),
            |k| k.mirrors.clear(),
            |k| drop(k.variables.insert("A".to_owned(), "b".to_owned())),
            |k| k.bytecode = false,
            |k| k.catalog = Some(String::new()),
            |k| k.codec.push('x'),
            |k| k.sealed_path.push('x'),
            |k| k.compatibility = 2,
            |k| k.refresh = 1,
            |k| k.base = Some(String::new()),
        ];
        assert_eq!(changes.len(), fields);
        let mut keys = vec![key(&inputs())];
        for change in changes {
            let mut changed = inputs();
            change(&mut changed);
            keys.push(key(&changed));
        }
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), fields + 1);
    }

    #[test]
    fn levels_of_cpus() {
        let v2 = "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3";
        let v3 = format!("{v2} avx avx2 bmi1 bmi2 f16c fma movbe abm");
        let v4 = format!("{v3} avx512f avx512bw avx512cd avx512dq avx512vl");
        for (flags, named) in [
            ("fpu sse2", "x86_64"),
            (v2, "x86_64_v2"),
            (v3.as_str(), "x86_64_v3"),
            (v4.as_str(), "x86_64_v4"),
        ] {
            assert_eq!(level(&format!("processor\t: 0\nflags\t\t: {flags}\nbugs\t:\n")), named);
        }
        assert_eq!(level(""), "x86_64");
        assert!(archspec().unwrap().starts_with("x86_64"));
    }
}
