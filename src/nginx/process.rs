//! The life of a worker process: what the master makes for it, its start, its wake-up, its end.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use nginx_sys::{
    NGX_PROCESS_SINGLE, NGX_PROCESS_WORKER, ngx_connection_t, ngx_core_conf_t, ngx_core_module,
    ngx_cycle_t, ngx_event_actions, ngx_event_t, ngx_get_connection, ngx_int_t, ngx_process,
    ngx_test_config, ngx_uint_t, ngx_worker,
};

use super::conf::MainConf;
use super::host::{WorkerHost, own_id};
use super::http::Context;
use super::worker::Worker;
use super::zone::Zone;
use super::{NGX_ERROR, NGX_OK, guard, log};
use crate::engine::{Engine, Plan};
use crate::keystore::{Keystore, KeystoreError};

mod events {
    include!(concat!(env!("OUT_DIR"), "/event_flags.rs"));
}

/// The configuration is complete: the master makes what workers need and may not make.
pub fn prepare(main: &mut MainConf, old: Option<&MainConf>) -> Result<(), String> {
    // SAFETY: globals of nginx, and the new cycle, whose core configuration is complete.
    let (test, process, core) = unsafe {
        let cycle = main.cycle.ok_or("no cycle")?;
        let core = (*cycle).conf_ctx.add(ngx_core_module.index).read().cast::<ngx_core_conf_t>();
        (ngx_test_config != 0, ngx_process, &*core)
    };
    if test {
        return Ok(());
    }
    if process == NGX_PROCESS_SINGLE as ngx_uint_t && old.is_some_and(|o| o.worker.is_some()) {
        // This very process uses the old zone, which nginx is about to unmap.
        return Err("with \"master_process off\" nginx has to be restarted, not reloaded".into());
    }
    // SAFETY: asks only.
    let root = unsafe { libc::geteuid() } == 0;
    let owner = root.then_some((core.user, core.group));
    make_keystore(main, old, owner).map_err(|e| format!("keystore: {e}"))?;
    let workers = if core.master == 1 { core.worker_processes.max(1) } else { 1 };
    main.wakeups = (0..workers).map(|_| eventfd()).collect::<Result<_, _>>()?;
    Ok(())
}

/// Also refuses passwords that open less than the ones before, as the first thing: new workers
/// would have nothing to serve, and the old ones have.
fn make_keystore(
    main: &MainConf,
    old: Option<&MainConf>,
    owner: Option<(u32, u32)>,
) -> Result<(), KeystoreError> {
    let dir = main.raw.keystore();
    if let Some(old) = old.filter(|old| old.raw.keystore() == dir) {
        let keystore = Keystore::at(dir).with_passwords(main.raw.passwords().clone());
        keystore.check_loss(old.raw.passwords())?;
    }
    let keystore = Keystore::create(dir, owner)?;
    if let Err(error) = keystore.check_writable() {
        // Not refused: what is there is better than nothing, and another host may replace it.
        let then = "certificates in it are served and checked, but none can be replaced from here";
        log::line(log::WARN, &format!("keystore: {error}: {then}"));
    }
    let own = owner.map_or_else(|| rustix::process::getegid().as_raw(), |(_, group)| group);
    keystore.share(main.raw.group(), own)
}

fn eventfd() -> Result<OwnedFd, String> {
    // SAFETY: a new descriptor, owned from here on.
    unsafe {
        let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
        if fd < 0 {
            return Err(format!("eventfd() failed ({})", std::io::Error::last_os_error()));
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

pub unsafe extern "C" fn init_process(cycle: *mut ngx_cycle_t) -> ngx_int_t {
    guard(NGX_ERROR, || {
        // SAFETY: nginx passes the cycle; these globals are set before.
        let (process, context) = unsafe { (ngx_process, Context::of_cycle(&*cycle)) };
        // The cache manager and loader come here too, with the slot of worker 0.
        if process != NGX_PROCESS_WORKER as ngx_uint_t
            && process != NGX_PROCESS_SINGLE as ngx_uint_t
        {
            return NGX_OK;
        }
        let Some(context) = context else { return NGX_OK };
        // SAFETY: our configuration of this cycle; one thread.
        let main = unsafe { &mut *context.ours() };
        if main.entries.is_empty() {
            return NGX_OK;
        }
        if process == NGX_PROCESS_SINGLE as ngx_uint_t {
            let text = "with \"master_process off\" a reload is refused, restart instead";
            log::line(log::WARN, text);
        }
        // An error would end the worker, and nginx would start no other: servers that are not ours
        // go on, ours refuse.
        if let Err(text) = start(cycle, main) {
            log::line(log::ALERT, &format!("not started, managed servers refuse: {text}"));
        }
        NGX_OK
    })
}

fn start(cycle: *mut ngx_cycle_t, main: &mut MainConf) -> Result<(), String> {
    let zone = Zone::of(main).ok_or("no shared zone")?;
    // SAFETY: set by nginx before this process began its work.
    let slot = unsafe { ngx_worker }.min(main.wakeups.len().saturating_sub(1));
    let all: Vec<RawFd> = main.wakeups.iter().map(AsRawFd::as_raw_fd).collect();
    let own = *all.get(slot).ok_or("no eventfd")?;
    let plan = Plan {
        keystore: main.raw.keystore().to_owned(),
        passwords: main.raw.passwords().clone(),
        cas: main.raw.cas().to_vec(),
        entries: main.entries.clone(),
    };
    let host = Arc::new(WorkerHost { zone, own, all, id: own_id() });
    let engine = Engine::with_network(plan, host)?;
    // SAFETY: a valid cycle.
    let connections = unsafe { (*cycle).connection_n };
    let max_held = main.raw.max_held().unwrap_or(connections / 4).max(1);
    let worker = Worker::new(main, zone, engine, slot, max_held);
    main.worker = Some(worker);
    listen(cycle, own, worker)?;
    // SAFETY: as above.
    start_masked(unsafe { &(*worker).engine });
    // SAFETY: as above; nobody else has a reference to it yet.
    let worker = unsafe { &mut *worker };
    worker.engine.await_look(FIRST_LOOK);
    worker.take_updates();
    Ok(())
}

/// Nothing is served meanwhile, by other servers neither; clients wait in the socket's queue. A
/// keystore that needs longer holds only the handshakes that need it.
const FIRST_LOOK: Duration = Duration::from_millis(300);

/// Starts the engine's threads with all signals blocked: nginx's handlers are for its own thread.
fn start_masked(engine: &Engine) {
    // SAFETY: plain calls on own sets.
    unsafe {
        let mut all = std::mem::zeroed::<libc::sigset_t>();
        let mut saved = std::mem::zeroed::<libc::sigset_t>();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut saved);
        engine.start();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const saved, ptr::null_mut());
    }
}

/// Listens on the eventfd: edge-triggered, and never read, as nginx's own notify is.
fn listen(cycle: *mut ngx_cycle_t, fd: RawFd, worker: *mut Worker) -> Result<(), String> {
    // SAFETY: event-loop thread; nginx's connection for a descriptor of ours, as nginx's own
    // notify has one. `channel` says at exit that this is no forgotten socket.
    unsafe {
        let c = ngx_get_connection(fd as c_int, (*cycle).log);
        if c.is_null() {
            return Err("not enough worker_connections for ssl_cert_autofetch".into());
        }
        (*c).pool = (*cycle).pool;
        (*c).data = worker.cast::<c_void>();
        let (read, write) = ((*c).read, (*c).write);
        (*read).set_channel(1);
        (*write).set_channel(1);
        (*read).log = (*cycle).log;
        (*write).log = (*cycle).log;
        (*read).handler = Some(wakeup_handler);
        let add = ngx_event_actions.add.ok_or("no event method")?;
        let (kind, flags) = (events::READ_EVENT as ngx_int_t, events::CLEAR_EVENT as ngx_uint_t);
        if add(read, kind, flags) != NGX_OK {
            return Err("adding the event of ssl_cert_autofetch failed".into());
        }
    }
    Ok(())
}

unsafe extern "C" fn wakeup_handler(event: *mut ngx_event_t) {
    guard((), || {
        // SAFETY: the connection of listen(); event-loop thread.
        let worker = unsafe {
            let c = (*event).data.cast::<ngx_connection_t>();
            &mut *(*c).data.cast::<Worker>()
        };
        worker.take_updates();
    });
}

/// A thread inside OpenSSL while exit() takes OpenSSL apart crashes the worker (measured: 9 of
/// 20). What still runs after a moment is left alone: the process ends without exit handlers.
pub unsafe extern "C" fn exit_process(cycle: *mut ngx_cycle_t) {
    const PATIENCE: Duration = Duration::from_millis(100);
    extern "C" fn leave() {
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) }
    }
    guard((), || {
        // SAFETY: the cycle of this worker; one thread.
        let main = unsafe { Context::of_cycle(&*cycle).map(|c| c.ours()) };
        // SAFETY: event-loop thread.
        let worker = main.and_then(|m| unsafe { Worker::of(m) });
        if worker.is_some_and(|w| !w.engine.stop(PATIENCE)) {
            // SAFETY: runs before the handlers registered earlier, OpenSSL's among them.
            unsafe { libc::atexit(leave) };
        }
    });
}
