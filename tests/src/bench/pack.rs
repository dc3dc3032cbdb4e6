//! Packing alone: the layer writer beside the sum of what it cannot do without, on the same files.

use std::process::Command;

use robotimage_layer::Codec;
use serde_json::Value;

use super::Bench;
use super::corpus::warm;
use super::report::{Goal, Row, shown};
use super::stats::Sample;
use crate::error::{Error, Result};
use crate::install;
use crate::process::run as run_command;

/// Reading, hashing and compressing are all there is to it.
const GOAL: Goal = Goal::Ratio(1.10);

pub(super) fn run(bench: &Bench) -> Result<Vec<Row>> {
    let mut build = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    build
        .current_dir(install::work_tree())
        .args(["build", "--locked", "--quiet", "--release"]);
    run_command(
        "release build of the layer's examples",
        build.args(["-p", "robotimage-layer", "--examples"]),
    )?;
    let examples = bench.binaries.builder.with_file_name("examples");
    let environment = bench.environment().get(&bench.own)?;
    warm(&environment)?;
    let ask = |program: &str, codec: Codec, threads: Option<&str>| -> Result<Value> {
        let mut command = Command::new(examples.join(program));
        command.arg(&environment).arg(codec.to_string()).args(threads);
        let said = run_command(program, &mut command)?;
        serde_json::from_str(&said).map_err(|error| Error::Other(format!("{program} said {said:?}: {error}")))
    };
    let mut rows = Vec::new();
    for codec in [Codec::Zstd, Codec::Gzip] {
        let mut figures = Figures::default();
        for _ in 0..bench.settings.runs {
            figures.add(
                &ask("primitives", codec, None)?,
                &ask("pack", codec, None)?,
                &ask("pack", codec, Some("1"))?,
            )?;
        }
        rows.extend(figures.rows(codec)?);
    }
    Ok(rows)
}

#[derive(Default)]
struct Figures {
    /// Sum of the primitives, and each by its name.
    sum: Vec<f64>,
    parts: Vec<String>,
    cpu: Vec<f64>,
    /// With all processors, and with one thread.
    wall: Vec<f64>,
    alone: Vec<f64>,
}

impl Figures {
    fn add(&mut self, primitives: &Value, pack: &Value, alone: &Value) -> Result<()> {
        let number = |from: &Value, name: &str| from[name].as_f64().ok_or_else(|| Error::Other(format!("no {name} in {from}")));
        // Two that did not do the same work cannot be compared.
        for other in [primitives, alone] {
            if other["digest"] != pack["digest"] {
                return Err(Error::Other(format!(
                    "different layers: {} and {}",
                    other["digest"], pack["digest"]
                )));
            }
        }
        self.sum.push(number(primitives, "sum")?);
        self.cpu.push(number(pack, "cpu")?);
        self.wall.push(number(pack, "wall")?);
        self.alone.push(number(alone, "wall")?);
        let parts =
            ["walk", "read", "hash", "compress", "hash_compressed"].map(|name| Ok(format!("{name} {:.3}", number(primitives, name)?)));
        self.parts.push(parts.into_iter().collect::<Result<Vec<_>>>()?.join(", "));
        Ok(())
    }

    fn rows(self, codec: Codec) -> Result<Vec<Row>> {
        let sum = Sample::new("primitives", self.sum)?;
        let cpu = Sample::new("pack", self.cpu)?;
        let (wall, alone) = (Sample::new("pack", self.wall)?, Sample::new("pack", self.alone)?);
        println!(
            "{codec}: pack {} s of processor, primitives {} s ({})",
            shown(&cpu),
            shown(&sum),
            self.parts.last().map_or("", String::as_str)
        );
        let goal = if codec == Codec::Zstd { GOAL } else { Goal::None };
        Ok(vec![
            Row::beside(
                format!("processor time of a cold pack, {codec}"),
                cpu.median(),
                "s",
                ("walk + read + hash + compress + hash", sum.median()),
                goal,
            ),
            Row::beside(
                format!("wall time of a cold pack, {codec}, all processors"),
                wall.median(),
                "s",
                ("the same with one thread", alone.median()),
                Goal::None,
            ),
        ])
    }
}
