//! A kept node across processes: what `testbed up` writes and everybody else attaches to.
//!
//! Invariant: attaching never starts or ends anything.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Node;
use crate::error::{Error, Result};
use crate::machine::Machine;
use crate::pki::Authority;
use crate::process::{Identity, Part, Spec};

#[derive(Serialize, Deserialize)]
struct State {
    programs: PathBuf,
    parts: Vec<(Spec, Identity)>,
}

impl Node {
    /// A node that `testbed up` started, by its run folder.
    pub fn attach(run_dir: &Path) -> Result<Self> {
        let machine = Machine::attach(run_dir)?;
        let path = run_dir.join("node.json");
        let bytes = fs::read(&path).map_err(|_| Error::NotRunning(path.clone()))?;
        let state: State = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Other(format!("{} is damaged ({error}); run `testbed down`", path.display())))?;
        let parts = state
            .parts
            .into_iter()
            .map(|(spec, identity)| Part::attach(spec, identity))
            .collect();
        let authority = Authority::open(&run_dir.join("pki"))?;
        Ok(Self {
            parts,
            authority,
            programs: state.programs,
            machine,
        })
    }

    /// Records the parts for those who attach; again after a part was restarted.
    pub fn write_state(&self) -> Result<()> {
        let parts = self.parts.iter().map(|part| (part.spec().clone(), part.identity())).collect();
        let state = State {
            programs: self.programs.clone(),
            parts,
        };
        let path = self.run_dir().join("node.json");
        let text = serde_json::to_vec(&state).expect("invariant: plain data");
        fs::write(&path, text).map_err(Error::io("write", &path))
    }
}
