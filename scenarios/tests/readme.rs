//! README.md shows the scenarios as they are.

#![allow(clippy::expect_used, reason = "a test fails by panicking")]

#[test]
fn the_table_in_the_readme_is_that_of_the_definitions() {
    let readme = include_str!("../../README.md");
    let table = softoff_scenarios::readme_table(&softoff_scenarios::load_all().expect("the definitions"));
    assert!(
        readme.contains(&table),
        "the table under \"The scenarios\" in README.md is not this one; `cargo xtask list --markdown` prints it:\n{table}"
    );
}
