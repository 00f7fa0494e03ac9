//! Submits one task to a spool and waits for its end, with the standard library alone.
//! usage: spool_submit SPOOL_DIR TASK JSON_ARGS [TIMEOUT_SECONDS]
//! exit:  0 done, 1 failed, 2 cancelled, 64 usage, 65 refused, 74 I/O error, 75 not over in time
//! build: rustc -O spool_submit.rs
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::os::unix::{ffi::OsStringExt, fs::OpenOptionsExt};
use std::time::{Duration, Instant, SystemTime};
use std::{env, fs, process, thread};

fn quit(code: i32, text: &str) -> ! {
    eprintln!("spool_submit: {text}");
    process::exit(code)
}

fn main() {
    let argv: Vec<Vec<u8>> = env::args_os().skip(1).map(OsStringExt::into_vec).collect();
    let (spool, task, args, timeout) = match argv.as_slice() {
        [spool, task, args] => (spool, task, args, "30"),
        [spool, task, args, timeout] => (spool, task, args, std::str::from_utf8(timeout).unwrap_or("")),
        _ => quit(64, "usage: spool_submit SPOOL_DIR TASK JSON_ARGS [TIMEOUT_SECONDS]"),
    };
    let letters = task.iter().all(|c| c.is_ascii_alphanumeric() || b"._-".contains(c));
    if task.len() > 64 || !letters || !task.first().is_some_and(u8::is_ascii_alphanumeric) {
        quit(64, "TASK is at most 64 letters, digits and . _ -, beginning with a letter or digit");
    }
    let seconds: u64 = match timeout.parse() {
        Ok(seconds) if seconds < 1_000_000 && !timeout.starts_with('+') => seconds,
        _ => quit(64, "TIMEOUT_SECONDS is a whole number below 1000000"),
    };
    // From here on, paths are the spool's.
    if let Err(error) = env::set_current_dir(std::ffi::OsString::from_vec(spool.clone())) {
        quit(64, &format!("SPOOL_DIR: {error}"));
    }
    if !fs::read("format").is_ok_and(|text| text == b"spool 1\n") {
        quit(64, "not a spool of format 1");
    }
    // An error is not the task's failure, which is 1.
    process::exit(run(task, args, Duration::from_secs(seconds)).unwrap_or_else(|error| quit(74, &error.to_string())))
}

fn run(task: &[u8], args: &[u8], timeout: Duration) -> Result<i32> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_err(Error::other)?;
    let id = new_id(now.as_millis())?;
    submit(&id, &[b"{\"id\":\"", id.as_bytes(), b"\",\"task\":\"", task, b"\",\"args\":", args, b"}\n"].concat())?;
    print(id.as_bytes())?;

    // 4. Look for the id in the terminal states, where it stands between commas, and among what was refused.
    let (started, mut pause, entry) = (Instant::now(), 5, format!(",{id},"));
    loop {
        for (state, code) in [("done", 0), ("failed", 1), ("cancelled", 2)] {
            if !find(state, |name| name.contains(&entry))?.is_empty() {
                if state == "done" {
                    print(&fs::read(newest_record(&id, now.as_secs())?)?)?;
                }
                return Ok(code);
            }
        }
        let refused = find("rejected", |name| name.starts_with(&id))?;
        for reason in refused.iter().filter(|path| path.ends_with(".reason.json")) {
            eprintln!("{}", fs::read_to_string(reason)?.trim());
        }
        if !refused.is_empty() {
            return Ok(65);
        }
        if started.elapsed() >= timeout {
            quit(75, "not over in time; the task goes on");
        }
        thread::sleep(Duration::from_millis(pause));
        pause = (pause * 2).min(200);
    }
}

/// 1. A UUIDv7: 48 bits of milliseconds, version 7, 12 random bits, variant 10, 62 random bits.
fn new_id(milliseconds: u128) -> Result<String> {
    let mut random = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut random)?;
    let mut bits = milliseconds << 80 | u128::from_be_bytes(random) >> 48;
    bits = bits & !(0xf << 76) | 0x7 << 76;
    bits = bits & !(0x3 << 62) | 0x2 << 62;
    Ok(format!("{bits:032x}"))
}

fn submit(id: &str, action: &[u8]) -> Result<()> {
    // 2. Write the action under a hidden name and sync it. What a crash leaves in tmp/ is ignored and aged out.
    let hidden = format!("tmp/.{id}");
    let mut file = named(&hidden, fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&hidden))?;
    named(&hidden, file.write_all(action))?;
    named(&hidden, file.sync_all())?; // after this, closing has nothing left to report
    drop(file);
    // 3. Rename: now, and complete, it is visible. Sync the name too; a shared incoming/ may not let us open it.
    named("incoming", fs::rename(hidden, format!("incoming/{id}.json")))?;
    match fs::File::open("incoming") {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        dir => named("incoming", dir?.sync_all()),
    }
}

/// The result, its error told with the path it is about.
fn named<T>(path: &str, result: Result<T>) -> Result<T> {
    result.map_err(|error| Error::new(error.kind(), format!("{path}: {error}")))
}

/// The paths STATE/DATE/NAME whose name matches.
fn find(state: &str, matches: impl Fn(&str) -> bool) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for date in names(state)? {
        let dir = format!("{state}/{date}");
        found.extend(names(&dir)?.iter().filter(|name| matches(name)).map(|name| format!("{dir}/{name}")));
    }
    Ok(found)
}

/// What is in a directory. A missing one is empty: it is made when it is needed.
fn names(dir: &str) -> Result<Vec<String>> {
    match fs::read_dir(dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        entries => named(dir, entries)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect(),
    }
}

/// attempts/DATE/ID.N.json, DATE the date inside the id, N the highest: it may skip.
fn newest_record(id: &str, seconds: u64) -> Result<String> {
    let dir = format!("attempts/{}", date(seconds / 86400));
    let number = |name: &String| name.strip_prefix(id)?.strip_prefix('.')?.strip_suffix(".json")?.parse::<u64>().ok();
    let newest = names(&dir)?.iter().filter_map(number).max();
    newest.map(|n| format!("{dir}/{id}.{n}.json")).ok_or_else(|| Error::other("no attempt record"))
}

/// YYYY-MM-DD of a day counted from 1970-01-01: the standard library has no calendar.
fn date(mut day: u64) -> String {
    for month in 0.. {
        let year = 1970 + month / 12;
        let leap = u64::from(year % 4 == 0 && (year % 100 != 0 || year % 400 == 0));
        let length = [31, 28 + leap, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][month % 12];
        if day < length {
            return format!("{year}-{:02}-{:02}", month % 12 + 1, day + 1);
        }
        day -= length;
    }
    unreachable!()
}

fn print(line: &[u8]) -> Result<()> {
    let mut out = std::io::stdout();
    out.write_all(line.trim_ascii_end())?;
    out.write_all(b"\n")?;
    out.flush()
}
