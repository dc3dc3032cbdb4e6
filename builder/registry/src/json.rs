//! One way to write JSON documents whose bytes are digested.
//!
//! Invariant: equal values give equal bytes. The OCI types keep labels and annotations in hash maps, whose order
//! differs from run to run, so object keys are sorted here and never left to the serializer.

use serde::Serialize;
use serde_json::Value;

/// Compact JSON with the keys of every object sorted bytewise, without a trailing newline.
///
/// Fails only for values that JSON cannot express, such as a map with keys that are not strings.
pub fn canonical(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    let value = sorted(serde_json::to_value(value)?);
    serde_json::to_vec(&value)
}

fn sorted(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<(String, Value)> = map.into_iter().map(|(key, value)| (key, sorted(value))).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(entries.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(sorted).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn keys_are_sorted_at_every_depth() {
        let labels: HashMap<String, String> = (0..50).map(|n| (format!("k{n:02}"), "v".to_owned())).collect();
        let document = serde_json::json!({"z": [{"b": 1, "a": 2}], "labels": labels, "A": null});
        let text = String::from_utf8(canonical(&document).unwrap()).unwrap();
        assert!(text.starts_with(r#"{"A":null,"labels":{"k00":"v","k01":"v","#), "{text}");
        assert!(text.ends_with(r#""z":[{"a":2,"b":1}]}"#), "{text}");
    }
}
