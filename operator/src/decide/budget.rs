//! The status fits into 6 KiB, whatever was reported.

use robotimage_crds::api::RobotImageStatus;

use crate::text;

/// Most bytes of a status as JSON.
pub(super) const MOST: usize = 6 * 1024;
/// What the last log lines are cut to before history is given up.
const TAIL: usize = 400;

/// Cuts what is least missed, until the status fits: the log's tail to its last lines, the oldest history, the rest of the
/// tail, then tags beyond the first. What is left has a fixed bound.
pub(super) fn fit(status: &mut RobotImageStatus) {
    while size(status) > MOST {
        if let Some(tail) = status
            .last_failure
            .as_mut()
            .and_then(|failure| failure.log_tail.as_mut())
            .filter(|tail| tail.len() > TAIL)
        {
            *tail = text::tail(tail, TAIL);
        } else if status.history.len() > 2 {
            status.history.pop();
        } else if status.last_failure.as_mut().and_then(|failure| failure.log_tail.take()).is_some() {
        } else if let Some(image) = status.latest_image.as_mut().filter(|image| image.tags.len() > 1) {
            image.tags.pop();
        } else {
            break;
        }
    }
}

fn size(status: &RobotImageStatus) -> usize {
    serde_json::to_vec(status).expect("invariant: a status is plain data").len()
}
