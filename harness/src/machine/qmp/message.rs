//! One QMP line: a reply, an event, or garbage. No line, however shaped, is an error that ends the stream.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// QEMU's refusal of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QmpFault {
    /// QAPI's error class, such as `GenericError` or `CommandNotFound`.
    pub class: String,
    /// QEMU's sentence.
    pub description: String,
}

impl fmt::Display for QmpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", crate::text::printable(&self.description, 300), self.class)
    }
}

/// An event, known or not.
#[derive(Debug, Clone, PartialEq)]
pub struct QmpEvent {
    /// QAPI's name of it.
    pub name: String,
    /// Its data, `null` when it has none.
    pub data: Value,
    /// Seconds of QEMU's host clock.
    pub seconds: i64,
    /// Microseconds of it. -1 when QEMU could not read the clock (QAPI documentation).
    pub microseconds: i64,
}

impl QmpEvent {
    /// Since the UNIX epoch; `None` when QEMU could not read its clock.
    pub fn since_epoch(&self) -> Option<Duration> {
        let seconds = u64::try_from(self.seconds).ok()?;
        let micros = u64::try_from(self.microseconds).ok()?;
        Some(Duration::from_secs(seconds).saturating_add(Duration::from_micros(micros)))
    }
}

/// What a line is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Incoming {
    /// The answer to the command with this id.
    Reply {
        /// Our id.
        id: u64,
        /// Its `return` member, or the refusal.
        result: Result<Value, QmpFault>,
    },
    /// An event.
    Event(QmpEvent),
    /// Neither.
    Garbage,
}

/// Reads one line.
pub(super) fn parse(line: &[u8]) -> Incoming {
    let Ok(Value::Object(mut object)) = serde_json::from_slice(line) else {
        return Incoming::Garbage;
    };
    if let Some(Value::String(name)) = object.remove("event") {
        let stamp = object.remove("timestamp").unwrap_or_default();
        let part = |key: &str| stamp.get(key).and_then(Value::as_i64).unwrap_or(-1);
        let (seconds, microseconds) = (part("seconds"), part("microseconds"));
        let data = object.remove("data").unwrap_or_default();
        return Incoming::Event(QmpEvent { name, data, seconds, microseconds });
    }
    let Some(id) = object.get("id").and_then(Value::as_u64) else {
        return Incoming::Garbage;
    };
    if let Some(error) = object.get("error") {
        let text = |key: &str| error.get(key).and_then(Value::as_str).unwrap_or("?").to_owned();
        let fault = QmpFault { class: text("class"), description: text("desc") };
        return Incoming::Reply { id, result: Err(fault) };
    }
    match object.remove("return") {
        Some(value) => Incoming::Reply { id, result: Ok(value) },
        None => Incoming::Garbage,
    }
}

/// The version in a greeting line, `major.minor.micro`; `None` when the line is no greeting.
pub(super) fn greeting_version(line: &[u8]) -> Option<String> {
    let greeting: Value = serde_json::from_slice(line).ok()?;
    let qemu = greeting.get("QMP")?.get("version")?.get("qemu")?;
    let part = |key: &str| qemu.get(key).and_then(Value::as_u64);
    Some(format!("{}.{}.{}", part("major")?, part("minor")?, part("micro")?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(r#"{"return":{},"id":3}"#, Incoming::Reply { id: 3, result: Ok(json!({})) })]
    #[case(r#"{"return":{}}"#, Incoming::Garbage)]
    #[case(r#"{"id":"libvirt-1","return":{}}"#, Incoming::Garbage)]
    #[case(r#"[1,2]"#, Incoming::Garbage)]
    #[case("{", Incoming::Garbage)]
    #[case(
        r#"{"id":1,"error":{"class":"GenericError","desc":"no"}}"#,
        Incoming::Reply { id: 1, result: Err(QmpFault { class: "GenericError".into(), description: "no".into() }) }
    )]
    #[case(
        r#"{"event":"BRAND_NEW","data":{"x":[1]},"timestamp":{"seconds":5,"microseconds":6}}"#,
        Incoming::Event(QmpEvent { name: "BRAND_NEW".into(), data: json!({"x":[1]}), seconds: 5, microseconds: 6 })
    )]
    #[case(
        r#"{"event":"STOP"}"#,
        Incoming::Event(QmpEvent { name: "STOP".into(), data: json!(null), seconds: -1, microseconds: -1 })
    )]
    fn lines_are_told_apart(#[case] line: &str, #[case] expected: Incoming) {
        assert_eq!(parse(line.as_bytes()), expected);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(line in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&line);
            greeting_version(&line);
        }

        #[test]
        fn no_json_makes_it_panic(id in any::<i64>(), name in ".{0,20}", seconds in any::<i64>()) {
            let line = json!({"event": name, "id": id, "timestamp": {"seconds": seconds}}).to_string();
            if let Incoming::Event(event) = parse(line.as_bytes()) {
                event.since_epoch();
            }
        }
    }
}
