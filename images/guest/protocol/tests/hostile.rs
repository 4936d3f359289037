//! What comes from a guest may be anything.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use proptest::collection::vec;
use proptest::prelude::*;
use softoff_guest_protocol::document::{Document, Flaw, Kind};
use softoff_guest_protocol::probe::ProbeLine;

proptest! {
    #[test]
    fn any_payload_survives(number: u32, flushed: bool, payload in vec(any::<u8>(), 0..3000)) {
        let document = Document { kind: if flushed { Kind::Flushed } else { Kind::Unflushed }, number };
        prop_assert_eq!(Document::parse(&document.encode(&payload)), Ok(document));
    }

    /// A document with one wrong byte in its payload is never taken for a whole one.
    #[test]
    fn one_wrong_byte_shows(payload in vec(any::<u8>(), 1..3000), at: usize, with in 1u8..) {
        let document = Document { kind: Kind::Flushed, number: 7 };
        let mut bytes = document.encode(&payload);
        let at = bytes.len() - 1 - at % payload.len();
        *bytes.get_mut(at).unwrap() ^= with;
        prop_assert_eq!(Document::parse(&bytes), Err(Flaw::Checksum));
    }

    #[test]
    fn random_bytes_never_panic(bytes in vec(any::<u8>(), 0..200), headed: bool) {
        let bytes = if headed { [b"SOFTOFF-DOC ".as_slice(), &bytes].concat() } else { bytes };
        let _document = Document::parse(&bytes);
        let _line = ProbeLine::parse(&bytes);
    }
}
