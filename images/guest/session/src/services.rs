//! The service phase: what the service control manager does when Windows shuts down.
//!
//! Wine's manager knows no shutdown and never sends SERVICE_CONTROL_PRESHUTDOWN or SERVICE_CONTROL_SHUTDOWN, so
//! the services get SERVICE_CONTROL_STOP. The order and the limits are those of Windows: first the services that
//! accept PRESHUTDOWN, each with its own limit; then the others, within WaitToKillServiceTimeout. In each round
//! all are told at once, and who is not done in time is left behind.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use softoff_guest_probe::report::Reporter;
use softoff_guest_probe::win32::{from_wide_pointer, last_error, wide};
use softoff_guest_protocol::control::ToInit;
use softoff_guest_protocol::probe::ProbeEvent;
use windows_sys::Win32::System::Services::{
    CloseServiceHandle, ControlService, ENUM_SERVICE_STATUS_PROCESSW, EnumServicesStatusExW,
    NotifyServiceStatusChangeW, OpenSCManagerW, OpenServiceW, QueryServiceStatus, SC_ENUM_PROCESS_INFO,
    SC_HANDLE, SC_MANAGER_CONNECT, SC_MANAGER_ENUMERATE_SERVICE, SERVICE_ACCEPT_PRESHUTDOWN, SERVICE_ACTIVE,
    SERVICE_CONTROL_STOP, SERVICE_NOTIFY_2W, SERVICE_NOTIFY_STATUS_CHANGE, SERVICE_NOTIFY_STOPPED,
    SERVICE_QUERY_STATUS, SERVICE_STATUS, SERVICE_STOP, SERVICE_STOP_PENDING, SERVICE_STOPPED,
    SERVICE_WIN32_OWN_PROCESS,
};
use windows_sys::Win32::System::Threading::SleepEx;

use crate::plan::{Work, rounds};
use crate::policy::{Limits, Values, preshutdown_limit};
use crate::progress::Progress;
use crate::screen::Ui;
use crate::settings::{preshutdown_order, update_pending};
use crate::skip::wines_own;

/// How often a service's progress is asked for, and the update screen painted.
const BEAT: Duration = Duration::from_millis(500);

/// What stopping services needs of the rest of the session.
#[derive(Clone, Copy)]
pub(crate) struct World<'a> {
    /// The registry.
    pub(crate) values: &'a dyn Values,
    /// The screen.
    pub(crate) ui: &'a Ui,
    /// The way to COM1.
    pub(crate) reporter: &'a Reporter,
    /// The way to `init`.
    pub(crate) tell: &'a dyn Fn(ToInit),
}

/// A running service, and how long it may take to stop.
#[derive(Debug, Clone)]
struct Running {
    name: String,
    preshutdown: bool,
}

/// A handle of the service control manager or of a service.
struct Handle(SC_HANDLE);

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: closed once.
        unsafe { CloseServiceHandle(self.0) };
    }
}

fn manager() -> Result<Handle, String> {
    // SAFETY: null names this machine and its active database.
    let manager =
        unsafe { OpenSCManagerW(null(), null(), SC_MANAGER_CONNECT | SC_MANAGER_ENUMERATE_SERVICE) };
    if manager.is_null() { Err(last_error("OpenSCManagerW")) } else { Ok(Handle(manager)) }
}

/// The running own-process services that are not Wine's own.
fn running() -> Result<Vec<Running>, String> {
    let manager = manager()?;
    // The buffer is made of whole structures, so that it is aligned for them; the names follow within it.
    let mut buffer: Vec<ENUM_SERVICE_STATUS_PROCESSW> = Vec::new();
    loop {
        let size = (buffer.len() * size_of::<ENUM_SERVICE_STATUS_PROCESSW>()) as u32;
        let (mut needed, mut count, mut resume) = (0, 0, 0);
        // SAFETY: `size` is that of the buffer in bytes; null names no load order group.
        let done = unsafe {
            EnumServicesStatusExW(
                manager.0,
                SC_ENUM_PROCESS_INFO,
                SERVICE_WIN32_OWN_PROCESS,
                SERVICE_ACTIVE,
                buffer.as_mut_ptr().cast(),
                size,
                &raw mut needed,
                &raw mut count,
                &raw mut resume,
                null(),
            )
        };
        if done != 0 {
            let services = buffer.iter().take(count as usize);
            return Ok(services.filter_map(as_running).collect());
        }
        if needed == 0 {
            return Err(last_error("EnumServicesStatusExW"));
        }
        let more = (needed as usize).div_ceil(size_of::<ENUM_SERVICE_STATUS_PROCESSW>()) + 1;
        buffer.resize(buffer.len() + more, ENUM_SERVICE_STATUS_PROCESSW::default());
    }
}

fn as_running(service: &ENUM_SERVICE_STATUS_PROCESSW) -> Option<Running> {
    // SAFETY: the manager filled in a name that ends with a zero.
    let name = unsafe { from_wide_pointer(service.lpServiceName) };
    let status = &service.ServiceStatusProcess;
    // The low bits: SERVICE_INTERACTIVE_PROCESS may be set beside the type.
    let own_process = status.dwServiceType & SERVICE_WIN32_OWN_PROCESS != 0;
    let preshutdown = status.dwControlsAccepted & SERVICE_ACCEPT_PRESHUTDOWN != 0;
    (own_process && wines_own(&name).is_none()).then_some(Running { name, preshutdown })
}

/// Stops the services, first those that accept PRESHUTDOWN, and reports each. Where updates wait for a restart,
/// the first part shows their progress.
pub(crate) fn stop_all(limits: Limits, world: World<'_>) {
    let World { values, reporter, tell, .. } = world;
    let (early, late): (Vec<_>, Vec<_>) = match running() {
        Ok(services) => services.into_iter().partition(|service| service.preshutdown),
        Err(why) => {
            reporter.trouble(format!("the services were not stopped: {why}"));
            return;
        }
    };
    let updating = update_pending(values) && !early.is_empty();
    let mut progress = updating.then(|| Progress::new(early.len(), world));
    let early = early.into_iter().map(|service| service.name).collect();
    let mut all_stopped = true;
    for names in rounds(early, &preshutdown_order(values)) {
        let limit = |name: String| (name.clone(), preshutdown_limit(values, &name));
        for service in round(names.into_iter().map(limit).collect(), reporter, progress.as_mut()) {
            all_stopped = false;
            tell(ToInit::ServiceTimedOut { service });
        }
    }
    if let Some(progress) = progress {
        progress.end(all_stopped);
    }
    round(late.into_iter().map(|service| (service.name, limits.kill_service)).collect(), reporter, None);
}

/// Tells these services at once to stop, each in a thread of its own: a service that does not take the control
/// holds up whoever sends it. Gives those that did not stop in their time.
fn round(
    services: Vec<(String, Duration)>,
    reporter: &Reporter,
    mut progress: Option<&mut Progress<'_>>,
) -> Vec<String> {
    let started = Instant::now();
    let (done, stopped) = channel();
    let works = Arc::new(Mutex::new(Works::new()));
    for (name, limit) in &services {
        reporter.report(ProbeEvent::ServiceStopping { service: name.clone() });
        lock(&works).insert(name.clone(), Work::new(*limit));
        let (name, limit, done) = (name.clone(), *limit, done.clone());
        std::thread::spawn(move || {
            let result = stop(&name, limit);
            done.send((name, result)).ok();
        });
    }
    if progress.is_some() {
        let works = Arc::downgrade(&works);
        std::thread::spawn(move || watch(&works, started));
    }
    let total = services.len();
    let mut waiting = services;
    let mut left_behind = Vec::new();
    while let Some(longest) = waiting.iter().map(|(_, limit)| *limit).max() {
        // A little more than the limit itself: the thread that waits for it should be the one to say so.
        let left = (longest + Duration::from_millis(250)).saturating_sub(started.elapsed());
        if left.is_zero() {
            break;
        }
        let beat = if progress.is_some() { BEAT } else { left };
        if let Ok((name, result)) = stopped.recv_timeout(left.min(beat)) {
            waiting.retain(|(waits, _)| *waits != name);
            lock(&works).remove(&name);
            if let Err(why) = &result {
                reporter.trouble(format!("service {name}: {why}"));
            }
            let late = result != Ok(true);
            left_behind.extend(late.then(|| name.clone()));
            report_stopped(name, started, late, reporter);
        }
        if let Some(progress) = progress.as_deref_mut() {
            let now = started.elapsed();
            let percents: Vec<u32> = lock(&works).values().map(|work| work.percent(now)).collect();
            progress.show(total - waiting.len(), &percents);
        }
    }
    for (name, _) in waiting {
        left_behind.push(name.clone());
        report_stopped(name, started, true, reporter);
    }
    if let Some(progress) = progress {
        progress.passed(total);
    }
    left_behind
}

/// How far the services of a round are, by name.
type Works = HashMap<String, Work>;

fn lock(works: &Mutex<Works>) -> MutexGuard<'_, Works> {
    works.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks the manager for each service's checkpoint and wait hint, until the round is over. In a thread of its own:
/// the manager may be held up by a service.
fn watch(works: &Weak<Mutex<Works>>, started: Instant) {
    while let Some(works) = works.upgrade() {
        let names: Vec<String> = lock(&works).keys().cloned().collect();
        for name in names {
            let Some(status) = status(&name) else { continue };
            if let Some(work) = lock(&works).get_mut(&name) {
                let hint = Duration::from_millis(status.dwWaitHint.into());
                work.seen(started.elapsed(), status.dwCheckPoint, hint);
            }
        }
        drop(works);
        std::thread::sleep(BEAT);
    }
}

/// What the service last told the manager; `None` when it cannot be asked, or is not stopping.
fn status(name: &str) -> Option<SERVICE_STATUS> {
    let manager = manager().ok()?;
    let name = wide(name);
    // SAFETY: the name ends with a zero.
    let service = Handle(unsafe { OpenServiceW(manager.0, name.as_ptr(), SERVICE_QUERY_STATUS) });
    let mut status = SERVICE_STATUS::default();
    // SAFETY: `status` is valid for writing; a null handle makes the call fail.
    let asked = !service.0.is_null() && unsafe { QueryServiceStatus(service.0, &raw mut status) } != 0;
    (asked && status.dwCurrentState == SERVICE_STOP_PENDING).then_some(status)
}

fn report_stopped(service: String, started: Instant, timed_out: bool, reporter: &Reporter) {
    let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    reporter.report(ProbeEvent::ServiceStopped { service, took_ms, timed_out });
}

/// Sends SERVICE_CONTROL_STOP and waits; false if `limit` ran out first.
fn stop(name: &str, limit: Duration) -> Result<bool, String> {
    let started = Instant::now();
    let manager = manager()?;
    let wide_name = wide(name);
    // SAFETY: the name ends with a zero.
    let service =
        Handle(unsafe { OpenServiceW(manager.0, wide_name.as_ptr(), SERVICE_STOP | SERVICE_QUERY_STATUS) });
    if service.0.is_null() {
        return Err(last_error("OpenServiceW"));
    }
    let mut status = SERVICE_STATUS::default();
    // SAFETY: `status` is valid for writing.
    if unsafe { ControlService(service.0, SERVICE_CONTROL_STOP, &raw mut status) } == 0 {
        return Err(last_error("ControlService"));
    }
    if status.dwCurrentState == SERVICE_STOPPED {
        return Ok(true);
    }
    wait_stopped(service, limit.saturating_sub(started.elapsed()))
}

/// Waits for the manager's notice that the service has stopped; it comes at once if it already has.
fn wait_stopped(service: Handle, limit: Duration) -> Result<bool, String> {
    unsafe extern "system" fn noticed(_parameter: *const c_void) {}
    // Not freed when the limit runs out: the notice may still be written later, and the guest is about to end.
    let notice = Box::leak(Box::new(SERVICE_NOTIFY_2W {
        dwVersion: SERVICE_NOTIFY_STATUS_CHANGE,
        pfnNotifyCallback: Some(noticed),
        pContext: null_mut(),
        ..Default::default()
    }));
    // SAFETY: `notice` lives for ever.
    let status = unsafe { NotifyServiceStatusChangeW(service.0, SERVICE_NOTIFY_STOPPED, notice) };
    if status != 0 {
        let error = std::io::Error::from_raw_os_error(status.cast_signed());
        return Err(format!("NotifyServiceStatusChangeW: {error}"));
    }
    // SAFETY: an alertable wait lets the notice be delivered to this thread. It returns non-zero when it was.
    let noticed = unsafe { SleepEx(u32::try_from(limit.as_millis()).unwrap_or(u32::MAX - 1), 1) } != 0;
    if !noticed {
        // Closing the handle cancels the notice, but waits for a manager that may be stuck.
        std::mem::forget(service);
    }
    Ok(noticed)
}
