//! What passes between operator and build pod: the plan, a step's report, and the templates of tags.

#![no_main]

use robotimage_crds::build::{BuildPlan, BuildReport, MAX_REPORT_BYTES, Step, render};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(plan) = serde_json::from_str::<BuildPlan>(text) {
        let written = serde_json::to_string(&plan).expect("a plan is plain data");
        assert_eq!(serde_json::from_str::<BuildPlan>(&written).ok(), Some(plan));
    }
    for step in [Step::Fetch, Step::Resolve, Step::Publish] {
        match BuildReport::from_message(text, "0123456789abcdef0123456789abcdef", step) {
            Ok(report) => {
                assert_eq!(report.step, step);
                let written = report.to_message();
                if written.len() <= MAX_REPORT_BYTES {
                    BuildReport::from_message(&written, &report.id, step).expect("what was written is read back");
                }
            }
            Err(error) => assert!(error.to_string().len() <= 2 * MAX_REPORT_BYTES, "{error}"),
        }
    }
    if let Ok(tag) = render(text, "4be1c2d0aa11bb22cc33dd44ee55ff6677889900") {
        assert!(tag.len() <= text.len().saturating_mul(2) + 12);
    }
});
