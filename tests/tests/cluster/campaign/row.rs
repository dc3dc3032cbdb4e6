//! The table: what people do, when a fault comes, which one, and what must have come of it beside what must always hold.

use std::fmt;
use std::ops::RangeInclusive;

use robotimage_tests::apiproxy::Moment;

use super::cast::Casting;

/// What people do meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Life {
    /// They make a RobotImage.
    First,
    /// It is Ready, and they commit something.
    Next,
    /// They commit something while the first build runs.
    Supersede,
    /// It is Ready, and they change its spec.
    Spec,
    /// It is Ready, and they commit a robot that is none.
    Broken,
}

/// When the fault comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before they do it.
    Before,
    /// The build that is wanted was announced.
    Begun,
    /// A step of it has started.
    Step(&'static str),
}

/// How something ends and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stroke {
    /// SIGKILL; back after so many seconds.
    Away(u64),
    /// SIGSTOP for so many seconds: it keeps its connections and answers nothing.
    Frozen(u64),
}

/// What breaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing but what the operators are.
    None,
    /// The operator dies (SIGKILL) at its write of this number, and is started again.
    Dies(usize, Moment, String),
    /// Parts of the cluster.
    Parts(&'static [&'static str], Stroke),
    /// What runs of the build (SIGKILL).
    Containers,
    /// What runs of the build and the kubelet; the kubelet comes back when the operator has given the pod up.
    NodeLost,
    /// The kubelet stands still while the push goes on: until the push is over, or until the operator has given the pod up.
    KubeletFrozen { given_up: bool },
    /// The registry.
    Registry(Stroke),
    /// The git server takes no connections for so many seconds.
    GitAway(u64),
    /// It answers 503 for so many seconds.
    GitBusy(u64),
    /// It takes connections and never answers, for so many seconds.
    GitSilent(u64),
    /// Somebody deletes the build's Job: Background, Foreground or Orphan.
    JobDeleted(&'static str),
    /// Somebody deletes the build's pod, without waiting for its end.
    PodDeleted,
    /// The replica that leads.
    Leader(Stroke),
    /// Somebody deletes the Lease.
    LeaseDeleted,
    /// A stranger whose clock is an hour ahead takes the Lease and is not heard of again.
    LeaseTaken,
}

/// One row.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) life: Life,
    pub(crate) when: When,
    pub(crate) fault: Fault,
    pub(crate) casting: Casting,
    /// How many Jobs there may have been in the end.
    pub(crate) jobs: RangeInclusive<usize>,
    /// A reason that some status must have given; none when empty.
    pub(crate) says: &'static str,
    /// Whether it is of the short part, which every run of the suites has.
    pub(crate) short: bool,
}

const API: &[&str] = &["kube-apiserver"];
const ETCD: &[&str] = &["etcd"];
const BOTH: &[&str] = &["etcd", "kube-apiserver"];
const MANAGER: &[&str] = &["kube-controller-manager"];
const SCHEDULER: &[&str] = &["kube-scheduler"];
const CONTAINERD: &[&str] = &["containerd"];
const KUBELET: &[&str] = &["kubelet"];

fn row(life: Life, when: When, fault: Fault, jobs: RangeInclusive<usize>) -> Row {
    Row {
        life,
        when,
        fault,
        casting: Casting::Alone,
        jobs,
        says: "",
        short: false,
    }
}

impl Row {
    fn with(self, casting: Casting) -> Self {
        Self { casting, ..self }
    }

    fn says(self, says: &'static str) -> Self {
        Self { says, ..self }
    }

    fn short(self) -> Self {
        Self { short: true, ..self }
    }

    /// The operator dies at a write of the longest life.
    pub(crate) fn dies(write: usize, moment: Moment, what: String) -> Self {
        row(Life::Supersede, When::Before, Fault::Dies(write, moment, what), 1..=2).with(Casting::Counted)
    }

    /// For people, and what a single row is chosen by.
    pub(crate) fn name(&self) -> String {
        let casting = match self.casting {
            Casting::Alone | Casting::Counted => String::new(),
            Casting::Candidates(clocks) => format!(", candidates with clocks {clocks:?}"),
            Casting::Rivals(count) => format!(", {count} leaders at once"),
        };
        format!("{}, {}: {}{casting}", self.life, self.when, self.fault)
    }
}

/// All rows but those in which the operator dies: their points are the writes of a build without a fault.
pub(crate) fn rows() -> Vec<Row> {
    use Casting::{Candidates, Rivals};
    use Fault::{
        Containers, GitAway, GitBusy, GitSilent, JobDeleted, KubeletFrozen, Leader, LeaseDeleted, LeaseTaken, NodeLost, Parts, PodDeleted,
        Registry,
    };
    use Life::{Broken, First, Next, Spec, Supersede};
    use Stroke::{Away, Frozen};
    use When::{Before, Begun, Step};
    vec![
        row(First, Step("fetch"), Parts(API, Away(2)), 1..=1),
        row(First, Step("publish"), Parts(API, Away(5)), 1..=1),
        row(Next, Before, Parts(API, Away(3)), 2..=2),
        row(Spec, Before, Parts(API, Away(3)), 2..=2),
        row(First, Begun, Parts(API, Frozen(10)), 1..=1),
        row(Broken, Step("fetch"), Parts(API, Away(3)), 2..=2),
        row(First, Step("fetch"), Parts(ETCD, Away(3)), 1..=1),
        row(First, Step("publish"), Parts(ETCD, Away(3)), 1..=1).short(),
        row(First, Step("publish"), Parts(ETCD, Frozen(10)), 1..=1),
        row(Next, Before, Parts(ETCD, Away(3)), 2..=2),
        row(Supersede, Begun, Parts(BOTH, Away(3)), 2..=2),
        row(Broken, Begun, Parts(BOTH, Away(3)), 2..=2),
        row(First, Begun, Parts(MANAGER, Away(5)), 1..=1),
        row(First, Before, Parts(SCHEDULER, Away(8)), 1..=1),
        row(First, Step("fetch"), Parts(CONTAINERD, Away(2)), 1..=2),
        row(First, Step("publish"), Parts(CONTAINERD, Away(2)), 1..=2),
        row(First, Step("fetch"), Parts(KUBELET, Away(5)), 1..=1),
        row(First, Step("publish"), Parts(KUBELET, Away(5)), 1..=1),
        row(Supersede, Begun, Parts(KUBELET, Away(5)), 2..=2),
        row(First, Step("fetch"), Containers, 2..=2),
        row(First, Step("publish"), Containers, 2..=2),
        row(First, Step("publish"), NodeLost, 2..=2).says("NodeLost"),
        row(First, Step("publish"), KubeletFrozen { given_up: false }, 1..=1),
        row(First, Step("publish"), KubeletFrozen { given_up: true }, 2..=2).says("NodeLost"),
        row(First, Before, GitBusy(8), 1..=1).says("SourceUnreachable"),
        row(First, Before, GitAway(8), 1..=1).says("SourceUnreachable"),
        row(First, Begun, GitAway(8), 1..=3),
        row(First, Begun, GitSilent(12), 1..=3),
        row(Next, Before, GitAway(8), 2..=2),
        row(First, Begun, Registry(Away(8)), 1..=3),
        row(First, Step("publish"), Registry(Away(8)), 1..=3),
        row(First, Step("publish"), Registry(Frozen(20)), 1..=3),
        row(Next, Step("publish"), Registry(Away(8)), 2..=4),
        row(First, Step("fetch"), JobDeleted("Background"), 2..=2),
        // A pod that ends well within its grace has built.
        row(First, Step("publish"), JobDeleted("Foreground"), 1..=2),
        row(First, Step("fetch"), JobDeleted("Orphan"), 2..=2).short(),
        row(First, Step("publish"), JobDeleted("Orphan"), 2..=2),
        row(Supersede, Begun, JobDeleted("Background"), 2..=3),
        row(First, Step("resolve"), PodDeleted, 1..=2),
        row(Supersede, Begun, Leader(Away(0)), 2..=2).with(Candidates(&["+1200s", ""])),
        row(Supersede, Begun, Leader(Away(0)), 2..=2).with(Candidates(&["-1200s", ""])),
        row(Supersede, Begun, Leader(Frozen(12)), 2..=2).with(Candidates(&["", "+1200s"])),
        row(Supersede, Begun, Leader(Frozen(12)), 2..=2).with(Candidates(&["", "-1200s"])),
        row(First, Begun, LeaseDeleted, 1..=1).with(Candidates(&["", "+1200s"])),
        row(Next, Before, LeaseTaken, 2..=2).with(Candidates(&["", "-1200s"])),
        row(Supersede, Before, Fault::None, 2..=2).with(Candidates(&["+1200s"])),
        row(Supersede, Before, Fault::None, 2..=2).with(Candidates(&["-1200s"])),
        row(First, Before, Fault::None, 1..=1).with(Rivals(2)).short(),
        row(Supersede, Before, Fault::None, 2..=2).with(Rivals(2)),
        row(Next, Begun, Parts(API, Away(3)), 2..=2).with(Rivals(3)),
    ]
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::First => "a first build",
            Self::Next => "a new commit",
            Self::Supersede => "a commit during a build",
            Self::Spec => "a new spec",
            Self::Broken => "a broken commit",
        })
    }
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Before => f.write_str("before it"),
            Self::Begun => f.write_str("when it is announced"),
            Self::Step(step) => write!(f, "when {step} starts"),
        }
    }
}

impl fmt::Display for Stroke {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Away(0) => f.write_str("killed"),
            Self::Away(seconds) => write!(f, "killed, back after {seconds} s"),
            Self::Frozen(seconds) => write!(f, "frozen for {seconds} s"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("nothing"),
            Self::Dies(number, Moment::Before, what) => write!(f, "operator killed before write {number}, {what}"),
            Self::Dies(number, Moment::After, what) => write!(f, "operator killed after write {number}, {what}"),
            Self::Parts(parts, stroke) => write!(f, "{} {stroke}", parts.join(" and ")),
            Self::Containers => f.write_str("its containers killed"),
            Self::NodeLost => f.write_str("its containers and the kubelet killed, until it is given up"),
            Self::KubeletFrozen { given_up: false } => f.write_str("kubelet frozen until the push is over"),
            Self::KubeletFrozen { given_up: true } => f.write_str("kubelet frozen until the pod is given up"),
            Self::Registry(stroke) => write!(f, "registry {stroke}"),
            Self::GitAway(seconds) => write!(f, "git server away for {seconds} s"),
            Self::GitBusy(seconds) => write!(f, "git server answers 503 for {seconds} s"),
            Self::GitSilent(seconds) => write!(f, "git server silent for {seconds} s"),
            Self::JobDeleted(how) => write!(f, "Job deleted by a person ({how})"),
            Self::PodDeleted => f.write_str("pod deleted by a person"),
            Self::Leader(stroke) => write!(f, "leader {stroke}"),
            Self::LeaseDeleted => f.write_str("Lease deleted by a person"),
            Self::LeaseTaken => f.write_str("Lease taken by a stranger whose clock is an hour ahead"),
        }
    }
}
