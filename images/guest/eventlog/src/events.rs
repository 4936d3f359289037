//! The events that tell of an end, as Windows' providers write them (names, identifiers and fields from Microsoft's
//! documentation and from a real System.evtx of Windows 10).
//!
//! When each is written: 1074, 7043 and 42 at once; 6006 when the event log service stops; 12, 6005, 41 and 6008 at a
//! boot. 109 and 13 happen after the event log service has stopped: the kernel keeps them, and they reach the file
//! at the next boot, behind its 6005.

use crate::event::{Data, Event, FileTime, Guid, Provider, Value};

const EVENT_LOG: Provider = Provider::Classic("EventLog");
const USER32: Provider = Provider::Manifest {
    name: "User32",
    guid: Guid(0xb0aa_8734, 0x56f7, 0x41cc, [0xb2, 0xf4, 0xde, 0x22, 0x8e, 0x98, 0xb9, 0x46]),
    source: Some("User32"),
};
const KERNEL_GENERAL: Provider = Provider::Manifest {
    name: "Microsoft-Windows-Kernel-General",
    guid: Guid(0xa68c_a8b7, 0x004f, 0xd7b6, [0xa6, 0x98, 0x07, 0xe2, 0xde, 0x0f, 0x1f, 0x5d]),
    source: None,
};
const KERNEL_POWER: Provider = Provider::Manifest {
    name: "Microsoft-Windows-Kernel-Power",
    guid: Guid(0x331c_3b3a, 0x2005, 0x44c2, [0xac, 0x5e, 0x77, 0x22, 0x0c, 0x37, 0xd6, 0xb4]),
    source: None,
};
const SERVICE_CONTROL_MANAGER: Provider = Provider::Manifest {
    name: "Service Control Manager",
    guid: Guid(0x5559_08d1, 0xa6d7, 0x4695, [0x8e, 0x1e, 0x26, 0x93, 0x1d, 0x20, 0x12, 0xf4]),
    source: Some("Service Control Manager"),
};

/// The System process, which the kernel's events come from.
const SYSTEM_PROCESS: (u32, u32) = (4, 8);

/// Who asked for a shutdown, for event 1074.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Initiator {
    /// The program and, in brackets, its machine.
    pub process: String,
    /// The reason code, such as 0x500ff.
    pub reason: u32,
    /// `power off` or `restart`, which Windows writes in its own language.
    pub kind: &'static str,
}

fn base(provider: Provider, id: u16, time: FileTime, computer: &str, data: Data) -> Event {
    Event {
        provider,
        id,
        qualifiers: None,
        version: Some(0),
        level: 4,
        task: 0,
        opcode: 0,
        keywords: 0x8000_0000_0000_0000,
        time,
        computer: computer.to_owned(),
        process: Some(SYSTEM_PROCESS),
        by_system: true,
        data,
    }
}

fn event_log(id: u16, time: FileTime, computer: &str, strings: Vec<String>, binary: Vec<u8>) -> Event {
    Event {
        qualifiers: Some(0x8000),
        version: None,
        keywords: 0x0080_0000_0000_0000,
        process: None,
        by_system: false,
        ..base(EVENT_LOG, id, time, computer, Data::Classic { strings, binary })
    }
}

fn system_time(time: FileTime) -> Vec<u8> {
    time.system_time().into_iter().flat_map(u16::to_le_bytes).collect()
}

/// 6005: the event log service was started.
pub fn event_log_started(time: FileTime, computer: &str) -> Event {
    let binary = [system_time(time), vec![0; 8]].concat();
    event_log(6005, time, computer, vec![], binary)
}

/// 6006: the event log service was stopped; the last event of a clean end that the file holds afterwards.
pub fn event_log_stopped(time: FileTime, computer: &str) -> Event {
    event_log(6006, time, computer, vec![], 1u64.to_le_bytes().to_vec())
}

/// 6008: the previous shutdown, at `ended`, was unexpected. `ended` is as late as the log knows, which may be earlier
/// than the end itself. The binary data are two SYSTEMTIMEs, local and UTC; this guest's clock is UTC.
pub fn unexpected_shutdown(time: FileTime, ended: FileTime, computer: &str) -> Event {
    let [year, month, _, day, hour, minute, second, _] = ended.system_time();
    // Windows puts left-to-right marks between the parts of the date, as its own format gives it.
    let at = [
        format!("{hour:02}:{minute:02}:{second:02}"),
        format!("\u{200e}{month}\u{200e}/\u{200e}{day}\u{200e}/\u{200e}{year}"),
    ];
    let strings = at.into_iter().chain(std::iter::repeat_n(String::new(), 5)).collect();
    let binary = [system_time(ended), system_time(ended)].concat();
    Event { level: 2, ..event_log(6008, time, computer, strings, binary) }
}

/// 1074: a process has initiated a shutdown. Written before it, and it stays when the shutdown is given up.
pub fn shutdown_initiated(time: FileTime, computer: &str, by: &Initiator) -> Event {
    let text = |text: &str| Value::Text(text.to_owned());
    let data = vec![
        ("param1", text(&by.process)),
        ("param2", text(computer)),
        ("param3", text("No title for this reason could be found")),
        ("param4", Value::Text(format!("{:#x}", by.reason))),
        ("param5", text(by.kind)),
        ("param6", text("")),
        ("param7", text(r"NT AUTHORITY\SYSTEM")),
    ];
    Event {
        qualifiers: Some(0x8000),
        keywords: 0x8080_0000_0000_0000,
        ..base(USER32, 1074, time, computer, Data::Named(data))
    }
}

/// 7043: a service did not shut down properly after it received a preshutdown control.
pub fn service_timed_out(time: FileTime, computer: &str, service: &str) -> Event {
    let data = vec![("param1", Value::Text(service.to_owned()))];
    Event {
        qualifiers: Some(0xc000),
        level: 2,
        by_system: false,
        keywords: 0x8080_0000_0000_0000,
        ..base(SERVICE_CONTROL_MANAGER, 7043, time, computer, Data::Named(data))
    }
}

/// Kernel-General 12: the operating system started at `started`.
pub fn system_started(time: FileTime, started: FileTime, computer: &str, version: [u32; 2]) -> Event {
    let [major, minor] = version;
    let data = vec![
        ("MajorVersion", Value::U32(major)),
        ("MinorVersion", Value::U32(minor)),
        ("BuildVersion", Value::U32(0)),
        ("QfeVersion", Value::U32(0)),
        ("ServiceVersion", Value::U16(0)),
        ("BootMode", Value::U32(0)),
        ("StartTime", Value::Time(started)),
    ];
    let keywords = 0x8000_0000_0000_0080;
    Event { task: 1, keywords, ..base(KERNEL_GENERAL, 12, time, computer, Data::Named(data)) }
}

/// Kernel-General 13: the operating system is shutting down at `time`.
pub fn system_stopping(time: FileTime, computer: &str) -> Event {
    let data = vec![("StopTime", Value::Time(time))];
    let keywords = 0x8000_0000_0000_0080;
    Event {
        task: 2,
        keywords,
        by_system: false,
        ..base(KERNEL_GENERAL, 13, time, computer, Data::Named(data))
    }
}

/// Kernel-Power 109: the kernel power manager has initiated a shutdown transition; action and reason as numbers.
/// POWER_ACTION (winnt.h): 4 shutdown, 5 shutdown with reset, 6 power off. The reason's numbers are not documented.
pub fn shutdown_transition(time: FileTime, computer: &str, action: u32, reason: u32) -> Event {
    let data = vec![
        ("ShutdownActionType", Value::U32(action)),
        ("ShutdownEventCode", Value::U32(0)),
        ("ShutdownReason", Value::U32(reason)),
    ];
    let keywords = 0x8000_4000_0000_0404;
    Event {
        task: 103,
        keywords,
        by_system: false,
        ..base(KERNEL_POWER, 109, time, computer, Data::Named(data))
    }
}

/// Kernel-Power 42: the system is entering sleep. SYSTEM_POWER_STATE (winnt.h): 4 is S3, 5 is S4.
pub fn entering_sleep(time: FileTime, computer: &str, state: u32) -> Event {
    let data = vec![
        ("TargetState", Value::U32(state)),
        ("EffectiveState", Value::U32(state)),
        // 0: button or lid. [?] The fact sheet has no list of these.
        ("Reason", Value::U32(0)),
        ("Flags", Value::U32(0)),
        ("TransitionsToOn", Value::U16(0)),
    ];
    let keywords = 0x8000_0000_0000_0404;
    Event {
        task: 64,
        version: Some(3),
        keywords,
        ..base(KERNEL_POWER, 42, time, computer, Data::Named(data))
    }
}

/// Kernel-Power 41: the system has started without having been shut down cleanly first. All fields zero: nobody knows
/// why, as after a pulled plug. Version 2 of the event, which every Windows since Windows 7 knows.
pub fn unclean_start(time: FileTime, computer: &str) -> Event {
    let data = vec![
        ("BugcheckCode", Value::U32(0)),
        ("BugcheckParameter1", Value::Hex64(0)),
        ("BugcheckParameter2", Value::Hex64(0)),
        ("BugcheckParameter3", Value::Hex64(0)),
        ("BugcheckParameter4", Value::Hex64(0)),
        ("SleepInProgress", Value::Bool(false)),
        ("PowerButtonTimestamp", Value::U64(0)),
    ];
    let keywords = 0x8000_0000_0000_0002;
    let named = Data::Named(data);
    Event { level: 1, task: 63, version: Some(2), keywords, ..base(KERNEL_POWER, 41, time, computer, named) }
}
