//! What can happen: to the spec, to the source, to a build, to an operator, between any two of its calls.

use proptest::prelude::*;
use robotimage_crds::api::Supersede;
use robotimage_crds::build::Step;
use robotimage_crds::reason::Reason;

/// What a person asks for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Wish {
    Request,
    Flux,
    Force,
}

/// What happens next.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Pass(u64),
    Commit(u8),
    ServerFails(bool),
    EditTask(u8),
    EditInterval,
    EditBuild(Option<u32>, Supersede),
    Suspend(bool),
    Wish(Wish, u8),
    /// The number of the live build, or one near it.
    Cancel(i64),
    Platform(u8),
    Quota(bool),
    PodBlocked,
    PodStarts,
    FetchEnds,
    Succeed(bool),
    Fail(Step, Reason),
    OutOfMemory,
    JobTakenAway,
    PodTakenAway,
    SlowDeletion(bool),
    Reap,
    /// A leader is killed and started again.
    Restart(usize),
    /// A leader's clock is wrong by so many seconds from now on.
    Clock(usize, i64),
    /// What a leader's watches have told it by now: the resource, Jobs, pods. What is false stays as old as it was.
    Watch(usize, [bool; 3]),
    /// A leader goes on until it rests, or is killed after this many calls. Twice without a watch in between is a repetition.
    Work(usize, Option<u8>),
}

pub(super) fn history() -> impl Strategy<Value = (bool, Vec<Event>)> {
    (prop::bool::weighted(0.25), prop::collection::vec(event(), 0..60))
}

fn event() -> impl Strategy<Value = Event> {
    let reasons = prop::sample::select(vec![
        Reason::RobotYamlInvalid,
        Reason::PackageNotFound,
        Reason::RegistryUnavailable,
        Reason::BuildTimeout,
        Reason::PushUnauthorized,
        Reason::Canceled,
    ]);
    let steps = prop::sample::select(Step::ALL.to_vec());
    let ways = prop::sample::select(vec![Supersede::CancelRunning, Supersede::CancelPending, Supersede::Queue]);
    let wishes = prop::sample::select(vec![Wish::Request, Wish::Flux, Wish::Force]);
    let edits = prop_oneof![
        2 => (0_u8..3).prop_map(Event::EditTask),
        1 => Just(Event::EditInterval),
        2 => (prop::option::of(0_u32..4), ways).prop_map(|(retries, way)| Event::EditBuild(retries, way)),
        2 => any::<bool>().prop_map(Event::Suspend),
        4 => (wishes, 0_u8..4).prop_map(|(wish, value)| Event::Wish(wish, value)),
        2 => (0_i64..2).prop_map(Event::Cancel),
        1 => (0_u8..3).prop_map(Event::Platform),
    ];
    let builds = prop_oneof![
        1 => any::<bool>().prop_map(Event::Quota),
        1 => Just(Event::PodBlocked),
        4 => Just(Event::PodStarts),
        3 => Just(Event::FetchEnds),
        5 => any::<bool>().prop_map(Event::Succeed),
        4 => (steps, reasons).prop_map(|(step, reason)| Event::Fail(step, reason)),
        2 => Just(Event::OutOfMemory),
        1 => Just(Event::JobTakenAway),
        1 => Just(Event::PodTakenAway),
        1 => any::<bool>().prop_map(Event::SlowDeletion),
        3 => Just(Event::Reap),
    ];
    prop_oneof![
        2 => (1_u64..2000).prop_map(Event::Pass),
        2 => (0_u8..6).prop_map(Event::Commit),
        1 => any::<bool>().prop_map(Event::ServerFails),
        4 => edits,
        8 => builds,
        1 => (0_usize..2).prop_map(Event::Restart),
        1 => (0_usize..2, -4000_i64..4000).prop_map(|(leader, seconds)| Event::Clock(leader, seconds)),
        5 => (0_usize..2, any::<[bool; 3]>()).prop_map(|(leader, news)| Event::Watch(leader, news)),
        5 => (0_usize..2).prop_map(|leader| Event::Watch(leader, [true; 3])),
        10 => (0_usize..2, prop::option::of(1_u8..4)).prop_map(|(leader, calls)| Event::Work(leader, calls)),
    ]
}
