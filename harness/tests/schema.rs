//! `harness/schema/run.schema.json` documents what the code writes; a changed type must change it too.

use std::path::Path;

use softoff_harness::record::schema::json_schema;

#[test]
fn the_documented_schema_is_the_codes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("schema/run.schema.json");
    let generated = json_schema();
    let documented = std::fs::read_to_string(&path).unwrap_or_default();
    if documented != generated {
        let fresh = path.with_extension("json.new");
        std::fs::write(&fresh, generated).unwrap();
        panic!(
            "the types have changed; look at `diff {0} {1}`, then `mv {1} {0}`",
            path.display(),
            fresh.display()
        );
    }
}

#[test]
fn a_record_of_today_stays_readable() {
    // A result as schema 1 was first written; fields that came later must have defaults.
    let record = include_str!("data/run-schema-1.json");
    let run: softoff_harness::record::RunRecord = serde_json::from_str(record).unwrap();
    assert_eq!(run.results.len(), 4);
}
