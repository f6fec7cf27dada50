//! From root to a user that can do less, once the listeners are open.
//!
//! The C library's functions change all threads of the process, also those that are there already;
//! the system calls alone would change the one that makes them.

use std::ffi::{CString, c_char};
use std::io;
use std::mem::MaybeUninit;

/// Room for the texts of an entry of the user database.
const ENTRY_BYTES: usize = 64 * 1024;

/// Becomes a user, with its groups, for good. Nothing is done if the process is that user already:
/// it may be one that took over from another.
///
/// # Errors
/// There is no such user or group, or we may not.
pub(super) fn drop_to(user: Option<&str>, group: Option<&str>) -> Result<(), String> {
    let own = rustix::process::geteuid();
    let Some(user) = user else {
        if own.is_root() {
            log::warn!("running as root: `ringgate.user` names a user to become after the start");
        }
        return Ok(());
    };
    let (uid, mut gid) = user_ids(user).map_err(|why| format!("ringgate.user: {user}: {why}"))?;
    if let Some(group) = group {
        gid = group_id(group).map_err(|why| format!("ringgate.group: {group}: {why}"))?;
    }
    if own.as_raw() == uid {
        return Ok(());
    }
    if !own.is_root() {
        return Err(format!(
            "ringgate.user: only root can become {user}; start it as root or as that user"
        ));
    }
    become_user(user, uid, gid).map_err(|error| format!("can't become {user}: {error}"))
}

fn become_user(user: &str, uid: libc::uid_t, gid: libc::gid_t) -> io::Result<()> {
    let name = CString::new(user)?;
    // SAFETY: numbers only.
    ok(unsafe { libc::setresgid(gid, gid, gid) })?;
    // SAFETY: the name is a C string that outlives the call.
    ok(unsafe { libc::initgroups(name.as_ptr(), gid) })?;
    // SAFETY: numbers only.
    ok(unsafe { libc::setresuid(uid, uid, uid) })?;
    // SAFETY: a number only.
    if uid != 0 && unsafe { libc::setuid(0) } == 0 {
        return Err(io::Error::other("root could be had again"));
    }
    Ok(())
}

fn ok(result: i32) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn user_ids(name: &str) -> io::Result<(libc::uid_t, libc::gid_t)> {
    let name = CString::new(name)?;
    let (mut entry, mut found) = (MaybeUninit::<libc::passwd>::uninit(), std::ptr::null_mut());
    let mut texts: Vec<c_char> = vec![0; ENTRY_BYTES];
    // SAFETY: all pointers are to places that outlive the call, and the length is that of `texts`.
    let error = unsafe {
        let (texts, len) = (texts.as_mut_ptr(), texts.len());
        libc::getpwnam_r(name.as_ptr(), entry.as_mut_ptr(), texts, len, &raw mut found)
    };
    if found.is_null() {
        return Err(missing(error, "there is no such user"));
    }
    // SAFETY: something was found, so the entry was written.
    let entry = unsafe { entry.assume_init() };
    Ok((entry.pw_uid, entry.pw_gid))
}

fn group_id(name: &str) -> io::Result<libc::gid_t> {
    let name = CString::new(name)?;
    let (mut entry, mut found) = (MaybeUninit::<libc::group>::uninit(), std::ptr::null_mut());
    let mut texts: Vec<c_char> = vec![0; ENTRY_BYTES];
    // SAFETY: as for users.
    let error = unsafe {
        let (texts, len) = (texts.as_mut_ptr(), texts.len());
        libc::getgrnam_r(name.as_ptr(), entry.as_mut_ptr(), texts, len, &raw mut found)
    };
    if found.is_null() {
        return Err(missing(error, "there is no such group"));
    }
    // SAFETY: something was found, so the entry was written.
    Ok(unsafe { entry.assume_init() }.gr_gid)
}

fn missing(error: i32, why: &str) -> io::Error {
    if error == 0 { io::Error::other(why) } else { io::Error::from_raw_os_error(error) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_groups_have_numbers() {
        assert_eq!(user_ids("root").expect("a user"), (0, 0));
        assert_eq!(group_id("root").expect("a group"), 0);
        for name in ["no-such-name", "", "a\0b"] {
            assert!(user_ids(name).is_err() && group_id(name).is_err(), "{name:?}");
        }
    }

    #[test]
    fn who_is_not_there_is_nobody_to_become() {
        let why = drop_to(Some("no-such-name"), None).expect_err("nobody");
        assert_eq!(why, "ringgate.user: no-such-name: there is no such user");
        let why = drop_to(Some("root"), Some("no-such-name")).expect_err("nobody");
        assert_eq!(why, "ringgate.group: no-such-name: there is no such group");
    }
}
