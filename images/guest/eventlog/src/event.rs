//! What an event holds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A time as Windows keeps it: 100 ns units since 1601-01-01 UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileTime(pub u64);

/// From 1601 to 1970, in seconds.
const TO_UNIX: u64 = 11_644_473_600;

impl FileTime {
    /// Of a time of this system; one before 1970 is 1970.
    pub fn of(time: SystemTime) -> FileTime {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default() + Duration::from_secs(TO_UNIX);
        FileTime(u64::try_from(since.as_nanos() / 100).unwrap_or(u64::MAX))
    }

    /// Now.
    pub fn now() -> FileTime {
        FileTime::of(SystemTime::now())
    }

    /// The same as a SYSTEMTIME: year, month, day of the week, day, hour, minute, second, millisecond.
    pub(crate) fn system_time(self) -> [u16; 8] {
        let (days, millis) = (self.0 / 864_000_000_000, self.0 / 10_000 % 86_400_000);
        // Civil date from days, counted in eras of 400 years that begin in March; 1600-03-01 is 306 days before 1601.
        let days_from_march = days + 306;
        let (era, day_of_era) = (days_from_march / 146_097, days_from_march % 146_097);
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month + 2) / 5 + 1;
        let month = if month < 10 { month + 3 } else { month - 9 };
        let year = 1600 + era * 400 + year_of_era + u64::from(month <= 2);
        // 1601-01-01 was a Monday; Sunday is 0.
        let weekday = (days + 1) % 7;
        [
            year,
            month,
            weekday,
            day,
            millis / 3_600_000,
            millis / 60_000 % 60,
            millis / 1000 % 60,
            millis % 1000,
        ]
        .map(|n| u16::try_from(n).unwrap_or(u16::MAX))
    }
}

/// A GUID as its text reads: `data1-data2-data3-data4`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Guid(pub u32, pub u16, pub u16, pub [u8; 8]);

impl Guid {
    /// As it lies in a file.
    pub(crate) fn bytes(self) -> Vec<u8> {
        let Guid(one, two, three, four) = self;
        [&one.to_le_bytes()[..], &two.to_le_bytes(), &three.to_le_bytes(), &four].concat()
    }
}

/// Who writes an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// One without a manifest, such as `EventLog`.
    Classic(&'static str),
    /// One with a manifest.
    Manifest {
        /// Its name.
        name: &'static str,
        /// Its identifier.
        guid: Guid,
        /// Its name as an event source, where it has been a classic one.
        source: Option<&'static str>,
    },
}

/// A value of an event's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text. Windows cannot hold a zero within it, and cuts there.
    Text(String),
    /// A number of 8 bits.
    U8(u8),
    /// A number of 16 bits.
    U16(u16),
    /// A number of 32 bits.
    U32(u32),
    /// A number of 64 bits.
    U64(u64),
    /// A number of 64 bits that is shown in hexadecimal.
    Hex64(u64),
    /// True or false.
    Bool(bool),
    /// A time.
    Time(FileTime),
    /// Bytes.
    Binary(Vec<u8>),
}

/// The part of an event that differs from provider to provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// Named values, as a manifest declares them.
    Named(Vec<(&'static str, Value)>),
    /// Strings without names, and bytes: what a classic event source reports.
    Classic {
        /// The insertion strings.
        strings: Vec<String>,
        /// The raw data.
        binary: Vec<u8>,
    },
}

/// One event, without its number, which the log gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Who writes it.
    pub provider: Provider,
    /// The event's identifier, such as 6006.
    pub id: u16,
    /// Facility and severity of a classic source; 0x8000 is what `EventLog` and `User32` give.
    pub qualifiers: Option<u16>,
    /// Version of the event's definition; classic sources have none.
    pub version: Option<u8>,
    /// 1 critical, 2 error, 3 warning, 4 information.
    pub level: u8,
    /// The task.
    pub task: u16,
    /// The operation.
    pub opcode: u8,
    /// The keywords' bits.
    pub keywords: u64,
    /// When it happened.
    pub time: FileTime,
    /// The name of the machine.
    pub computer: String,
    /// The process and the thread that it comes from; classic events have none.
    pub process: Option<(u32, u32)>,
    /// Whether it is written for NT AUTHORITY\SYSTEM (S-1-5-18).
    pub by_system: bool,
    /// The data.
    pub data: Data,
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    // Wed Jul 12 2017 17:16:28.214, from a real event 6005 and its SYSTEMTIME.
    #[case(0x01d2_fb32_9911_2bb0, [2017, 7, 3, 12, 17, 16, 28, 214])]
    #[case(0, [1601, 1, 1, 1, 0, 0, 0, 0])]
    // Tue Feb 29 2000.
    #[case(125_962_560_000_000_000, [2000, 2, 2, 29, 0, 0, 0, 0])]
    fn times_are_dates(#[case] time: u64, #[case] date: [u16; 8]) {
        assert_eq!(FileTime(time).system_time(), date);
    }

    #[test]
    fn the_unix_epoch_is_where_it_belongs() {
        assert_eq!(FileTime::of(UNIX_EPOCH), FileTime(116_444_736_000_000_000));
    }
}
