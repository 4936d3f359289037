//! Reports of records in which any text may be hostile: no markup, no control characters.
#![no_main]

use libfuzzer_sys::fuzz_target;
use softoff_harness::fuzzing;
use softoff_harness::record::RunRecord;

/// Where the fuzzer's texts go, in turn.
fn plant(value: &mut serde_json::Value, texts: &[String], next: &mut usize) {
    match value {
        serde_json::Value::Object(map) => map.values_mut().for_each(|v| plant(v, texts, next)),
        serde_json::Value::Array(all) => all.iter_mut().for_each(|v| plant(v, texts, next)),
        serde_json::Value::String(text) if text.contains(' ') || text.contains('.') => {
            *text = texts[*next % texts.len()].clone();
            *next += 1;
        }
        _ => {}
    }
}

fuzz_target!(|texts: Vec<String>| {
    if texts.is_empty() {
        return;
    }
    let kept = include_str!("../../harness/tests/data/run-schema-1.json");
    let mut value: serde_json::Value = serde_json::from_str(kept).expect("the kept record");
    plant(&mut value, &texts, &mut 0);
    value["missing"] = serde_json::json!(texts);
    // Some texts are names of things: what does not fit is no record.
    let Ok(run) = serde_json::from_value::<RunRecord>(value) else { return };
    let [page, junit, summary] = fuzzing::reports(&run).expect("reports");
    // Ours are the record's element and the script.
    assert_eq!((page.matches("<script").count(), page.matches("</script").count()), (2, 2));
    for text in [&page, &junit, &summary] {
        assert!(!text.chars().any(|c| c.is_control() && !"\n\t\r".contains(c)), "a control character");
    }
    assert!(!summary.contains("<script") && !junit.contains("<script"));
});
