//! The probe service: it runs, and takes a known time to stop.

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicIsize, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use softoff_guest_probe::report::Reporter;
use softoff_guest_probe::win32::{last_error, wide};
use softoff_guest_protocol::probe::ProbeEvent;
use windows_sys::Win32::Foundation::{ERROR_CALL_NOT_IMPLEMENTED, NO_ERROR};
use windows_sys::Win32::System::Services::{
    RegisterServiceCtrlHandlerExW, SERVICE_ACCEPT_PRESHUTDOWN, SERVICE_ACCEPT_SHUTDOWN, SERVICE_ACCEPT_STOP,
    SERVICE_CONTROL_INTERROGATE, SERVICE_CONTROL_PRESHUTDOWN, SERVICE_CONTROL_SHUTDOWN, SERVICE_CONTROL_STOP,
    SERVICE_RUNNING, SERVICE_STATUS, SERVICE_STATUS_CURRENT_STATE, SERVICE_STOP_PENDING, SERVICE_STOPPED,
    SERVICE_TABLE_ENTRYW, SERVICE_WIN32_OWN_PROCESS, SetServiceStatus, StartServiceCtrlDispatcherW,
};

const FLUSH: Duration = Duration::from_secs(2);
/// How often a stop reports that it goes on.
const CHECKPOINT: Duration = Duration::from_secs(1);

/// What the service does.
pub(crate) struct Plan {
    /// Its service name.
    pub(crate) name: String,
    /// How long it takes to stop.
    pub(crate) stop: Duration,
    /// Whether it takes SERVICE_CONTROL_PRESHUTDOWN (instead of SERVICE_CONTROL_SHUTDOWN).
    pub(crate) preshutdown: bool,
}

struct Service {
    plan: Plan,
    reporter: &'static Reporter,
    /// The SERVICE_STATUS_HANDLE, once there is one.
    status: AtomicIsize,
    /// dwCheckPoint of a stop.
    checkpoint: AtomicU32,
    stop: Mutex<Option<Sender<()>>>,
}

static SERVICE: OnceLock<Service> = OnceLock::new();

/// Hands the process to the service control manager; returns when the service has stopped.
pub(crate) fn run(plan: Plan, reporter: &'static Reporter) {
    let mut name = wide(&plan.name);
    SERVICE.get_or_init(|| Service {
        plan,
        reporter,
        status: AtomicIsize::new(0),
        checkpoint: AtomicU32::new(1),
        stop: Mutex::new(None),
    });
    let table = [
        SERVICE_TABLE_ENTRYW { lpServiceName: name.as_mut_ptr(), lpServiceProc: Some(service_main) },
        SERVICE_TABLE_ENTRYW { lpServiceName: null_mut(), lpServiceProc: None },
    ];
    // SAFETY: the table ends with a null entry; table and name live until the dispatcher returns.
    if unsafe { StartServiceCtrlDispatcherW(table.as_ptr()) } == 0 {
        reporter.trouble(format!(
            "{}; `probe.exe service` is started by the service control manager (sc create, sc start)",
            last_error("StartServiceCtrlDispatcherW")
        ));
    }
    reporter.flush(FLUSH);
}

unsafe extern "system" fn service_main(_count: u32, _arguments: *mut *mut u16) {
    let Some(service) = SERVICE.get() else { return };
    let (sender, receiver) = channel();
    *service.stop.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(sender);
    let name = wide(&service.plan.name);
    // SAFETY: the name ends with a zero; the handler is a function of this program.
    let handle = unsafe { RegisterServiceCtrlHandlerExW(name.as_ptr(), Some(control), null()) };
    if handle.is_null() {
        service.reporter.trouble(last_error("RegisterServiceCtrlHandlerExW"));
        return;
    }
    service.status.store(handle as isize, Ordering::SeqCst);
    service.serve(&receiver);
}

unsafe extern "system" fn control(
    control: u32,
    _type: u32,
    _data: *mut c_void,
    _context: *mut c_void,
) -> u32 {
    let Some(service) = SERVICE.get() else { return ERROR_CALL_NOT_IMPLEMENTED };
    match control {
        SERVICE_CONTROL_INTERROGATE => NO_ERROR,
        SERVICE_CONTROL_STOP | SERVICE_CONTROL_SHUTDOWN | SERVICE_CONTROL_PRESHUTDOWN => {
            // The state must be STOP_PENDING before the handler returns, or the sender sees RUNNING.
            service.announce(SERVICE_STOP_PENDING);
            if let Some(stop) = &*service.stop.lock().unwrap_or_else(std::sync::PoisonError::into_inner) {
                stop.send(()).ok();
            }
            NO_ERROR
        }
        _ => ERROR_CALL_NOT_IMPLEMENTED,
    }
}

impl Service {
    fn serve(&self, stop: &Receiver<()>) {
        self.announce(SERVICE_RUNNING);
        stop.recv().ok();
        self.work();
        // The line goes first: the dispatcher returns, and the process may end, once the state is STOPPED.
        self.line("stopped");
        self.reporter.flush(FLUSH);
        self.set_status(SERVICE_STOPPED, Duration::ZERO);
    }

    /// Takes its time, with a checkpoint each second that says how much is left.
    fn work(&self) {
        let end = Instant::now() + self.plan.stop;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(CHECKPOINT));
            self.checkpoint.fetch_add(1, Ordering::SeqCst);
            self.set_status(SERVICE_STOP_PENDING, end.saturating_duration_since(Instant::now()));
        }
    }

    fn announce(&self, state: SERVICE_STATUS_CURRENT_STATE) {
        self.set_status(state, self.plan.stop);
        self.line(if state == SERVICE_RUNNING { "running" } else { "stop-pending" });
    }

    fn line(&self, state: &str) {
        self.reporter.report(ProbeEvent::ServiceState { state: state.into() });
    }

    /// `left` is the time that a stop still takes.
    fn set_status(&self, state: SERVICE_STATUS_CURRENT_STATE, left: Duration) {
        let early_or_late =
            if self.plan.preshutdown { SERVICE_ACCEPT_PRESHUTDOWN } else { SERVICE_ACCEPT_SHUTDOWN };
        // A little more than it takes: the manager must not think that the service hangs.
        let hint = left + CHECKPOINT / 2;
        let checkpoint = self.checkpoint.load(Ordering::SeqCst);
        let status = SERVICE_STATUS {
            dwServiceType: SERVICE_WIN32_OWN_PROCESS,
            dwCurrentState: state,
            dwControlsAccepted: match state {
                SERVICE_RUNNING => SERVICE_ACCEPT_STOP | early_or_late,
                _ => 0,
            },
            dwCheckPoint: if state == SERVICE_STOP_PENDING { checkpoint } else { 0 },
            dwWaitHint: match state {
                SERVICE_STOP_PENDING => u32::try_from(hint.as_millis()).unwrap_or(u32::MAX),
                _ => 0,
            },
            ..Default::default()
        };
        let handle = self.status.load(Ordering::SeqCst) as *mut c_void;
        // SAFETY: the handle came from RegisterServiceCtrlHandlerExW and needs no closing.
        if unsafe { SetServiceStatus(handle, &raw const status) } == 0 {
            self.reporter.trouble(last_error("SetServiceStatus"));
        }
    }
}
