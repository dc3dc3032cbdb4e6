//! The RobotImage operator.
//!
//! [`observe`] gathers what is known of one RobotImage, [`decide`] says what to do about it (a pure function: time and
//! randomness are arguments), [`apply`] does it. [`controller`] is the runtime around them, [`source`] asks git servers,
//! [`registry`] asks registries, both as [`hosts`] allow, [`config`] is the platform's configuration file, [`lease`] says which
//! of several replicas works, [`watchdog`] says whether the watches are alive, [`http`] serves health and [`metrics`].
//!
//! There is no state outside of the API server: a build's number and random id are in the status before its Job exists, its
//! result is in the status before its Job is deleted, and every write carries the resourceVersion or UID that it was decided
//! on. Killed at any point, the operator goes on as if nothing had happened; two of them at once do no harm.
//!
//! # What it may do
//!
//! These are all the verbs that it uses, and the chart grants no others:
//!
//! | group | resource | verbs | what for |
//! |---|---|---|---|
//! | robotimage.dev | robotimages | get, list, watch | the resources; `get` after a conflict |
//! | robotimage.dev | robotimages/status | patch | server-side apply |
//! | robotimage.dev | robotimages/finalizers | update | owner references that block deletion, where the cluster enforces it |
//! | batch | jobs | get, list, watch, create, delete | builds; `get` before a Job is said to be gone |
//! | (core) | pods | get, list, watch | results: container states and termination messages |
//! | (core) | configmaps `robotimage-platform` | create, patch | the platform's settings, server-side apply |
//! | (core) | configmaps | get, create, patch | only with publishTo.enabled: the ConfigMaps of `image.publishTo` |
//! | (core) | events | list | why a Job has no pod, or its pod no started container |
//! | events.k8s.io | events | create, patch | events of its own |
//! | coordination.k8s.io | leases, one by name, in its own namespace | get, watch, create, update | which replica leads |
//! | (core) | secrets | get | only with sourcePolling mode Operator, by Roles in the listed namespaces; never list or watch |

pub mod apply;
pub mod config;
pub mod controller;
pub mod decide;
#[cfg(any(fuzzing, test))]
#[doc(hidden)]
pub mod fuzzing;
pub mod hosts;
pub mod http;
pub mod labels;
pub mod lease;
pub mod metrics;
pub mod observe;
pub mod registry;
pub mod source;
pub mod watchdog;

mod quantity;
mod text;
