//! Groups of the system by name. The lookup may block: only the master does it, while it reads the
//! configuration, as nginx itself does for `user`.

use std::ffi::CString;
use std::ptr;

/// The number of the group of this name; None: there is none.
pub fn number(name: &str) -> Option<u32> {
    const MOST: usize = 1 << 20;
    let name = CString::new(name).ok()?;
    let mut memory = vec![0; 1024];
    loop {
        // SAFETY: all zeros is a valid group; name is NUL-terminated; libc writes no more than
        // memory.len() bytes to memory, and nothing of it is used after it is gone.
        let (error, found) = unsafe {
            let (mut group, mut found) = (std::mem::zeroed::<libc::group>(), ptr::null_mut());
            let (place, size) = (memory.as_mut_ptr(), memory.len());
            let error =
                libc::getgrnam_r(name.as_ptr(), &raw mut group, place, size, &raw mut found);
            (error, (!found.is_null()).then_some(group.gr_gid))
        };
        // A group with many members.
        if error != libc::ERANGE || memory.len() >= MOST {
            return found;
        }
        memory.resize(memory.len() * 4, 0);
    }
}
