//! What differs between versions of Windows, as data with reasons, and how a version is told from what its agent says.

use serde_json::Value;

/// A version of Windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowsVersion {
    /// Its name in the catalogue.
    pub name: &'static str,
    /// The first build number of it.
    pub first_build: u32,
    /// Whether it is a server.
    pub server: bool,
    /// What differs.
    pub facts: VersionFacts,
}

/// What differs from version to version, where a condition or a rule cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionFacts {
    /// PreshutdownTimeout of a service without one, milliseconds. 180 s before build 15063, 10 s from it on
    /// (SERVICE_PRESHUTDOWN_INFO).
    pub preshutdown_ms: u32,
    /// ShutdownWithoutLogon where it is not set: disabled on servers, enabled on clients (documented).
    pub shutdown_without_logon: bool,
    /// Whether the Shutdown Event Tracker is on where it is not set: on servers (documented); whether a button press
    /// shows it is not known.
    pub event_tracker: bool,
    /// Whether fast startup can be on: clients only (from memory).
    pub fast_startup: bool,
}

/// Build that changed the default of PreshutdownTimeout.
const SHORT_PRESHUTDOWN: u32 = 15_063;

const fn version(name: &'static str, first_build: u32, server: bool) -> WindowsVersion {
    let preshutdown_ms = if first_build < SHORT_PRESHUTDOWN { 180_000 } else { 10_000 };
    WindowsVersion {
        name,
        first_build,
        server,
        facts: VersionFacts {
            preshutdown_ms,
            shutdown_without_logon: !server,
            event_tracker: server,
            fast_startup: !server,
        },
    }
}

/// The versions, each line from its first build on. A server's and a client's builds overlap.
pub const VERSIONS: [WindowsVersion; 6] = [
    version("windows-server-2016", 14_393, true),
    version("windows-server-2019", 17_763, true),
    version("windows-server-2022", 20_348, true),
    version("windows-server-2025", 26_040, true),
    version("windows-10", 10_240, false),
    version("windows-11", 22_000, false),
];

/// What a guest's agent says of its system, as far as it is a Windows that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identified {
    /// The version.
    pub version: WindowsVersion,
    /// Its build number.
    pub build: u32,
}

impl Identified {
    /// PreshutdownTimeout's default for this very build: Windows 10 began with the long one.
    pub fn preshutdown_ms(&self) -> u32 {
        if self.build < SHORT_PRESHUTDOWN { 180_000 } else { 10_000 }
    }

    /// For a record: what a reader of it should know of this version.
    pub fn sentence(&self) -> String {
        let facts = self.version.facts;
        let or_not = |yes: bool| if yes { "on" } else { "off" };
        format!(
            "{}, build {}; where nothing is set: PRESHUTDOWN services have {} s, ShutdownWithoutLogon is {}, the event tracker \
             is {}, fast startup {}",
            self.version.name,
            self.build,
            self.preshutdown_ms() / 1000,
            u32::from(facts.shutdown_without_logon),
            or_not(facts.event_tracker),
            if facts.fast_startup { "may be on" } else { "is off" }
        )
    }
}

/// From the answer to `guest-get-osinfo`. The build number decides (`kernel-release`), not `version-id` and not the
/// names: older agents take 2022 and 2025 for 2019, and one release had a typing error in a name.
pub fn identify(osinfo: &Value) -> Option<Identified> {
    let text = |key: &str| osinfo.get(key).and_then(Value::as_str);
    if text("id") != Some("mswindows") {
        return None;
    }
    let build: u32 = text("kernel-release")?.trim().parse().ok()?;
    let server = match text("variant-id") {
        Some("server") => true,
        Some("client") => false,
        _ => text("pretty-name").is_some_and(|name| name.contains("Server")),
    };
    let fits = |version: &&WindowsVersion| version.server == server && version.first_build <= build;
    let version = VERSIONS.iter().filter(fits).max_by_key(|version| version.first_build)?;
    Some(Identified { version: *version, build })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn osinfo(build: &str, variant: Option<&str>, pretty: &str) -> Value {
        let mut info = json!({
            "id": "mswindows", "name": "Microsoft Windows", "pretty-name": pretty, "version": pretty,
            "version-id": "2019", "kernel-version": "10.0", "kernel-release": build, "machine": "x86_64"
        });
        if let Some(variant) = variant {
            info["variant"] = json!(variant);
            info["variant-id"] = json!(variant);
        }
        info
    }

    #[rstest]
    #[case("14393", Some("server"), Some("windows-server-2016"), 180_000)]
    #[case("17763", Some("server"), Some("windows-server-2019"), 10_000)]
    #[case("20348", Some("server"), Some("windows-server-2022"), 10_000)]
    #[case("26100", Some("server"), Some("windows-server-2025"), 10_000)]
    #[case("10240", Some("client"), Some("windows-10"), 180_000)]
    #[case("14393", Some("client"), Some("windows-10"), 180_000)]
    #[case("19045", Some("client"), Some("windows-10"), 10_000)]
    #[case("22631", Some("client"), Some("windows-11"), 10_000)]
    #[case("26200", Some("client"), Some("windows-11"), 10_000)]
    #[case::by_its_name("20348", None, Some("windows-server-2022"), 10_000)]
    #[case::older_than_all("9600", Some("server"), None, 0)]
    #[case::no_number("20348.1", Some("server"), None, 0)]
    #[case::nothing("", Some("server"), None, 0)]
    fn versions_are_told_by_their_build(
        #[case] build: &str,
        #[case] variant: Option<&str>,
        #[case] name: Option<&str>,
        #[case] preshutdown_ms: u32,
    ) {
        let found = identify(&osinfo(build, variant, "Windows Server 2019 Standard"));
        assert_eq!(found.map(|f| f.version.name), name);
        assert_eq!(found.map_or(0, |f| f.preshutdown_ms()), preshutdown_ms);
    }

    #[test]
    fn a_record_is_told_what_differs() {
        let told = identify(&osinfo("14393", Some("server"), "x")).unwrap().sentence();
        assert!(told.contains("windows-server-2016, build 14393") && told.contains("180 s"), "{told}");
        assert!(told.contains("ShutdownWithoutLogon is 0") && told.contains("tracker is on"), "{told}");
    }

    #[test]
    fn what_is_no_windows_is_none() {
        assert_eq!(identify(&json!({ "id": "debian", "kernel-release": "20348" })), None);
        assert_eq!(identify(&json!([1, 2])), None);
        assert_eq!(identify(&json!({ "id": "mswindows", "kernel-release": 20348 })), None);
    }
}
