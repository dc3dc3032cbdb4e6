//! Which rcc a build uses: known from the previous image where that says it, else had and asked.
//!
//! A change of code alone needs no rcc: its layer, the environment and rcc's hash of the environment file are those of the
//! previous image. The binary is then neither brought nor started.
//!
//! Invariant: what is known without the binary is bound to a digest: of the image it would be taken from, or of the binary itself.

use std::path::{Path, PathBuf};

use robotimage_crds::build::{PlanRcc, paths};
use robotimage_crds::reason::Reason;
use robotimage_registry::ResolvedImage;

use super::fetch::{blocking, reader};
use super::root::make_empty;
use super::{Context, Side, access, binary};
use crate::failure::Failure;
use crate::image::learned::Learned;
use crate::rcc::Rcc;

/// Home of rcc while it is asked for its version and its hash, below the scratch folder.
const HOME: &str = "rcc-home";

/// The rcc of a build.
#[derive(Debug)]
pub(super) struct ChosenRcc {
    /// What is known of it; its file is there only when something is made with it.
    pub(super) rcc: Rcc,
    /// Digest of the image that it is taken from; empty for a download.
    pub(super) image: String,
    resolved: Option<ResolvedImage>,
    there: bool,
    scratch: PathBuf,
}

impl ChosenRcc {
    /// Finds out which rcc it is, and brings it unless the previous image's is the same.
    pub(super) async fn choose(context: &Context, learned: Option<&Learned>, to: &Path) -> Result<Self, Failure> {
        let resolved = match &context.plan.image.rcc {
            PlanRcc::Image(image) => {
                let client = reader(context, &[paths::RCC_SECRET, paths::PULL_SECRET], Side::Rcc)?;
                Some(binary::resolve_image(&client, image).await?)
            }
            PlanRcc::Http(_) => None,
        };
        let digest = resolved.as_ref().and_then(|resolved| resolved.reference.digest());
        let image = digest.map(ToString::to_string).unwrap_or_default();
        let known = learned.map(Learned::rcc).filter(|(digest, _)| match &context.plan.image.rcc {
            PlanRcc::Image(_) => {
                let before = context.plan.previous.as_ref().map(|previous| previous.rcc_image.as_str());
                !image.is_empty() && before == Some(image.as_str())
            }
            PlanRcc::Http(source) => source.sha256.eq_ignore_ascii_case(digest.trim_start_matches("sha256:")),
        });
        let mut chosen = Self {
            rcc: Rcc {
                path: to.to_owned(),
                version: known.map(|(_, version)| version.to_owned()).unwrap_or_default(),
                sha256: known
                    .map(|(digest, _)| digest.trim_start_matches("sha256:").to_owned())
                    .unwrap_or_default(),
            },
            image,
            resolved,
            there: false,
            scratch: context.root.path(paths::SCRATCH),
        };
        if known.is_none() {
            chosen.bring(context).await?;
        }
        Ok(chosen)
    }

    /// Its home for questions; made when the binary was brought.
    pub(super) fn home(&self) -> PathBuf {
        self.scratch.join(HOME)
    }

    /// Brings the binary, unless it is there.
    pub(super) async fn bring(&mut self, context: &Context) -> Result<(), Failure> {
        if self.there {
            return Ok(());
        }
        let to = self.rcc.path.clone();
        match (&context.plan.image.rcc, &self.resolved) {
            (PlanRcc::Image(image), Some(resolved)) => {
                let client = reader(context, &[paths::RCC_SECRET, paths::PULL_SECRET], Side::Rcc)?;
                binary::from_resolved(&client, image, resolved, &self.scratch, &to).await?;
            }
            (PlanRcc::Http(source), _) => {
                let platform = &context.plan.platform;
                let web = access::web(platform, access::roots(&context.root)?, access::policy(platform)?);
                binary::from_web(&web, source, &to).await?;
            }
            (PlanRcc::Image(image), None) => {
                let message = format!("rcc image {image} was not looked up; please report this bug");
                return Err(Failure::new(Reason::InternalError, message));
            }
        }
        let home = self.home();
        let found = blocking(move || {
            make_empty(&home)?;
            Ok(Rcc::probe(&to, &home)?)
        })
        .await?;
        if !self.rcc.sha256.is_empty() && self.rcc.sha256 != found.sha256 {
            let message = "the rcc that the previous image was made with is another than the one its digest names now";
            return Err(Failure::new(Reason::DigestMismatch, message));
        }
        self.rcc = found;
        self.there = true;
        Ok(())
    }
}
