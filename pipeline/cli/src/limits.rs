//! Sets limits of the process before it begins its work.

/// Raises the limit of open files and connections to the maximum that the process may set. Most
/// shells start with 1024, for programs that call `select`, and every URL in flight takes one or
/// two. Does nothing on systems other than Linux.
pub(crate) fn allow_open_files() {
    #[cfg(target_os = "linux")]
    {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: both take a pointer to a structure that lives here, and keep no reference to it.
        #[allow(unsafe_code, reason = "the standard library has no interface to limits")]
        let _changed = unsafe {
            if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) == 0 {
                limit.rlim_cur = limit.rlim_max;
                libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit)
            } else {
                -1
            }
        };
    }
}
