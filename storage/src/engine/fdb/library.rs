use std::{
    ffi::{CStr, CString, c_char, c_int},
    os::unix::ffi::OsStrExt,
    path::Path,
    ptr,
};

use crate::Error;

/// What the system looks for when no library is named.
const DEFAULT: &str = "libfdb_c.so";
/// The API of 7.3, the oldest that this program speaks.
const API_VERSION: i32 = 730;
const INSTALL: &str =
    "install the package foundationdb-clients 7.3 or newer, or name the library in store.fdb.library";

const LOADED: c_int = 0;
const CANNOT_OPEN: c_int = 1;

/// Loads the client library and checks that it is new enough.
///
/// # Errors
/// [`Error::Unavailable`], which says what to install.
#[expect(unsafe_code, reason = "loads a library that is written in C")]
pub(super) fn load(path: Option<&Path>) -> Result<(), Error> {
    unsafe extern "C" {
        // In forward.c.
        fn aesp_fdb_load(path: *const c_char, why: *mut *const c_char) -> c_int;
    }
    let shown = path.unwrap_or(Path::new(DEFAULT));
    let name = CString::new(shown.as_os_str().as_bytes())
        .map_err(|_| Error::unavailable(format!("store.fdb.library has a zero in it; {INSTALL}")))?;
    let mut why = ptr::null();
    // SAFETY: both pointers are valid during the call; the caller holds a lock, so that no other thread calls it.
    let loaded = unsafe { aesp_fdb_load(name.as_ptr(), &raw mut why) };
    if loaded == LOADED {
        return check(foundationdb::api::get_max_api_version(), shown);
    }
    let why = if why.is_null() {
        "no reason given".into()
    } else {
        // SAFETY: it points to a string that lives until the next call of the loader, and it is copied here.
        unsafe { CStr::from_ptr(why) }.to_string_lossy().into_owned()
    };
    let shown = shown.display();
    Err(Error::unavailable(if loaded == CANNOT_OPEN {
        format!("can't load the FoundationDB client library {shown}: {why}; {INSTALL}")
    } else {
        format!(
            "{shown} is no FoundationDB client library, or one that is too old: it has no {why}; {INSTALL}"
        )
    }))
}

fn check(newest: i32, shown: &Path) -> Result<(), Error> {
    if newest >= API_VERSION {
        return Ok(());
    }
    Err(Error::unavailable(format!(
        "the FoundationDB client library {} is too old: its API is {}.{}; {INSTALL}",
        shown.display(),
        newest / 100,
        newest % 100 / 10,
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(library: &str) -> String {
        load(Some(Path::new(library))).unwrap_err().to_string()
    }

    #[test]
    fn a_missing_library_says_what_to_install() {
        let error = refusal("/nowhere/libfdb_c.so");
        assert!(error.contains("can't load the FoundationDB client library /nowhere/libfdb_c.so"), "{error}");
        assert!(error.contains("No such file"), "{error}");
        assert!(error.ends_with(INSTALL), "{error}");
    }

    #[test]
    fn another_library_is_refused_by_name() {
        let error = refusal("libc.so.6");
        assert!(error.contains("libc.so.6 is no FoundationDB client library"), "{error}");
        assert!(error.contains("it has no fdb_create_database; install"), "{error}");
    }

    #[test]
    fn an_old_library_says_which_it_is() {
        let error = check(710, Path::new("libfdb_c.so")).unwrap_err().to_string();
        assert!(error.contains("libfdb_c.so is too old: its API is 7.1; install"), "{error}");
        assert!(check(730, Path::new("x")).is_ok() && check(740, Path::new("x")).is_ok());
    }
}
