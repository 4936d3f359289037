//! Services that belong to Wine itself, and are not stopped in the service phase.

/// Names and reasons. Most of Wine's services share a process (`svchost`) and are passed over for that; these
/// have a process of their own in Wine 10, or had in an earlier version. `winedevice` counts its instances.
const WINES_OWN: [(&str, &str); 10] = [
    ("BITS", "stand-in for background transfers"),
    ("EventLog", "the last one to stop in Windows, too"),
    ("FontCache3.0.0.0", "stand-in without a program"),
    ("MountMgr", "drive letters go with it"),
    ("PlugPlay", "COM ports go with it"),
    ("RpcSs", "the service manager itself needs it"),
    ("Spooler", "runs only where a program has asked for printers"),
    ("StiSvc", "stand-in for scanners"),
    ("Winedevice", "hosts Wine's drivers"),
    ("Winmgmt", "stand-in for management instrumentation"),
];

/// Why a service is Wine's own; `None` if it is not.
pub(crate) fn wines_own(service: &str) -> Option<&'static str> {
    let kind = service.trim_end_matches(|c: char| c.is_ascii_digit());
    let known = |name: &str| name.eq_ignore_ascii_case(service) || name.eq_ignore_ascii_case(kind);
    WINES_OWN.iter().find(|(name, _)| known(name)).map(|(_, reason)| *reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("rpcss", true)]
    #[case("Winedevice2", true)]
    #[case("FontCache3.0.0.0", true)]
    #[case("Stubborn", false)]
    #[case("wuauserv", false)]
    #[case("Winedevice2b", false)]
    fn wines_services_are_left_alone_and_others_are_not(#[case] service: &str, #[case] own: bool) {
        assert_eq!(wines_own(service).is_some(), own);
    }
}
