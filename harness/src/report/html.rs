//! `report.html`: one file that needs nothing else. The template engine escapes everything that it places; the raw
//! record inside is JSON in which no character can end the element around it.

use std::path::Path;

use anyhow::Context;
use base64::Engine;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, UndefinedBehavior, escape_formatter};
use sha2::{Digest, Sha256};

use super::against::Shown;
use super::page::page;
use crate::compare::Comparison;
use crate::record::schema::RunRecord;
use crate::text::{is_hidden, printable_lines};

const TEMPLATE: &str = include_str!("page.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");

/// The run as a page; `dir` is its folder, for timelines and screens.
pub(super) fn render(dir: &Path, run: &RunRecord, comparison: Option<&Comparison>) -> anyhow::Result<String> {
    let mut engine = Environment::new();
    engine.set_auto_escape_callback(|_| AutoEscape::Html);
    // A page that is looked at in a terminal moves no cursor either.
    engine.set_formatter(|out, state, value| match value.as_str() {
        Some(text) if !value.is_safe() && text.chars().any(acts) => {
            escape_formatter(out, state, &Value::from(printable_lines(text)))
        }
        _ => escape_formatter(out, state, value),
    });
    engine.set_undefined_behavior(UndefinedBehavior::Strict);
    engine.add_template("page", TEMPLATE).context("the report's template")?;
    // The page may run this one script and load nothing, from anywhere, whatever got into it.
    let hash = base64::engine::general_purpose::STANDARD.encode(Sha256::digest(SCRIPT.as_bytes()));
    let context = minijinja::context! {
        page => Value::from(Serde(page(dir, run))),
        comparison => Value::from(Serde(comparison.map(Shown::new))),
        script_hash => hash,
        style => Value::from_safe_string(STYLE.to_owned()),
        script => Value::from_safe_string(SCRIPT.to_owned()),
        json => Value::from_safe_string(embedded(run)?),
    };
    engine.get_template("page").and_then(|t| t.render(context)).context("writing report.html")
}

/// Whether a character does something in a terminal; the white space of a text is none.
fn acts(c: char) -> bool {
    is_hidden(c) && !matches!(c, '\n' | '\t')
}

/// JSON that means the same and holds no `<`, `>` or `&`, and no character that acts: they occur only inside its strings,
/// where an escape may stand for them.
fn embedded(run: &RunRecord) -> anyhow::Result<String> {
    let json = serde_json::to_string(run).context("writing JSON")?;
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        let escaped = is_hidden(c) || matches!(c, '<' | '>' | '&');
        if escaped { out.push_str(&format!("\\u{:04x}", u32::from(c))) } else { out.push(c) }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Verdict;
    use crate::record::schema::ScenarioRecord;
    use crate::report::testing::{result, run};
    use proptest::prelude::*;

    const HOSTILE: &str =
        "</script><script>alert(1)</script><img src=x onerror=alert(2)>\" onload='x' {{ page }}";

    #[test]
    fn nothing_foreign_becomes_markup() {
        let mut bad = result(HOSTILE, 1);
        bad.verdict = Verdict::Fail;
        bad.reasons = vec![HOSTILE.into()];
        bad.image.name = HOSTILE.into();
        bad.dir = HOSTILE.into();
        bad.damage.trouble = Some(HOSTILE.into());
        let mut run = run([bad]);
        run.id = HOSTILE.into();
        run.host.cpu_model = HOSTILE.into();
        run.missing = vec![HOSTILE.into()];
        let html = render(Path::new("/nowhere"), &run, None).unwrap();
        // In the record's element quotes are nothing but quotes.
        let (markup, _) = html.split_once("<script type=\"application/json\"").unwrap();
        assert!(!markup.contains("onload='x'"));
        for tag in ["<script>alert", "<img src=x"] {
            assert!(!html.contains(tag), "{tag}");
        }
        // Ours: the record and the script. The text itself is there, escaped.
        assert_eq!(html.matches("<script").count(), 2);
        assert_eq!(html.matches("</script").count(), 2);
        assert!(html.contains("&lt;img src=x onerror=alert(2)&gt;"));
    }

    #[test]
    fn the_family_of_soft_versus_hard_has_its_table_and_plot() {
        let mut idle = result("soft-versus-hard-idle", 1);
        idle.outcome = crate::outcome::Outcome::HostKilled;
        idle.plug_pulled_ms = Some(0);
        let page = |results: Vec<ScenarioRecord>| render(Path::new("/nowhere"), &run(results), None).unwrap();
        let html = page(vec![idle]);
        assert!(html.contains("<th scope=\"row\">idle</th><td>at idle</td>"), "{html}");
        assert!(html.contains("src=\"data:image&#x2f;svg+xml;base64,"));
        let html = page(vec![result("control", 1)]);
        assert!(!html.contains("Damage against kill time"));
    }

    proptest! {
        #[test]
        fn the_record_inside_is_the_record(text in "\\PC*|(</?script>|<!--|[<>&\u{2028}\u{0}\"\\\\]){0,9}") {
            let mut one = result("control", 1);
            one.reasons = vec![text];
            let run = run([one]);
            let inside = embedded(&run).unwrap();
            prop_assert!(!inside.contains(['<', '>', '&']) && !inside.contains(is_hidden));
            let back: serde_json::Value = serde_json::from_str(&inside).unwrap();
            prop_assert_eq!(back, serde_json::to_value(&run).unwrap());
        }
    }
}
