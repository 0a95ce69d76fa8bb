//! The option table, used as mount(8), fstab(5) and people use it.

use std::path::Path;
use std::time::Duration;

use homifs_options::{
    ClientOptions, Direct, Engine, Format, LogLevel, MountFlags, MountOptions, OptionError, Reads,
    asks_for_help, help_text, man_section, split,
};
use proptest::prelude::*;

fn parse(list: &str) -> Result<MountOptions, OptionError> {
    list.parse()
}

fn refused(list: &str) -> String {
    parse(list).expect_err(list).to_string()
}

#[test]
fn empty_list_gives_defaults() {
    for list in ["", ",", "defaults", "ro", "ro,defaults,auto,nofail,_netdev,x-systemd.automount,loop"] {
        assert_eq!(parse(list).unwrap(), MountOptions::default(), "{list}");
    }
}

#[test]
fn every_option_with_a_value_is_taken() {
    let options = parse(
        "partition=3,fs=xfs,journal=/dev/sdb1,engine=pread,direct=off,threads=7,depth=64,cache=1G,map_cache=64MiB,\
         read_ahead=512K,max_read=131072,ttl=2h,log=/var/log/homifs.log,log_level=debug,norecovery,recovery=media,noallow_other,\
         nodefault_permissions,clients=2,client_sessions=9,client_queues=17,client_depth=256,client_memory=1G,\
         client_buffers=5,client_files=99,client_snapshots=3M,client_handle=2m,reads=engine,data=journal",
    )
    .unwrap();
    let expected = MountOptions {
        read_only: true,
        reads: Reads::Engine,
        lower: vec!["data=journal".to_owned()],
        norecovery: true,
        recovery: homifs_options::Recovery::Media,
        partition: Some(3),
        offset: None,
        format: Some(Format::Xfs),
        journal: Some("/dev/sdb1".into()),
        clients: 2,
        client_limits: ClientOptions {
            sessions: 9,
            queues: 17,
            depth: 256,
            memory: 1 << 30,
            buffers: 5,
            files: 99,
            snapshots: 3 << 20,
            handle: 120,
        },
        threads: Some(7),
        cache: 1 << 30,
        map_cache: 64 << 20,
        read_ahead: 512 << 10,
        max_read: 131_072,
        ttl: Duration::from_secs(7200),
        allow_other: Some(false),
        default_permissions: false,
        depth: 64,
        engine: Engine::Pread,
        direct: Direct::Off,
        log: Some("/var/log/homifs.log".into()),
        log_level: LogLevel::Debug,
        flags: MountFlags::default(),
    };
    assert_eq!(options, expected);
}

#[test]
fn flags_are_those_of_mount_2() {
    for (list, kernel) in [
        ("nosuid", libc::MS_NOSUID),
        ("nodev", libc::MS_NODEV),
        ("noexec", libc::MS_NOEXEC),
        ("noatime", libc::MS_NOATIME),
        ("nodiratime", libc::MS_NODIRATIME),
        ("relatime", libc::MS_RELATIME),
        ("strictatime", libc::MS_STRICTATIME),
        ("sync", libc::MS_SYNCHRONOUS),
        ("dirsync", libc::MS_DIRSYNC),
        ("lazytime", libc::MS_LAZYTIME),
        ("nosymfollow", 256), // MS_NOSYMFOLLOW, not in every libc
        ("user", libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC),
        ("users=x", libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC),
        ("owner", libc::MS_NOSUID | libc::MS_NODEV),
        ("group", libc::MS_NOSUID | libc::MS_NODEV),
        ("user,exec,suid", libc::MS_NODEV),
        ("noatime,relatime", libc::MS_RELATIME),
        ("nosuid,suid", 0),
    ] {
        assert_eq!(u64::from(parse(list).unwrap().flags.kernel_flags()), kernel, "{list}");
    }
}

#[test]
fn value_in_quotes_may_hold_commas() {
    let options = parse("ro,journal=\"/srv/a,b.img\",nosuid").unwrap();
    assert_eq!(options.journal.as_deref(), Some(Path::new("/srv/a,b.img")));
    assert!(options.flags.contains(MountFlags::NOSUID));
    assert_eq!(parse(&options.to_string()).unwrap(), options);
}

#[test]
fn unknown_option_is_named_with_the_nearest() {
    assert_eq!(
        refused("ro,cahce=1G"),
        "unknown mount option 'cahce' (did you mean 'cache'?); `homifs mount -o help` lists the options"
    );
    assert_eq!(refused("zebra"), "unknown mount option 'zebra'; `homifs mount -o help` lists the options");
}

#[test]
fn bad_values_are_refused_with_what_was_expected() {
    assert_eq!(
        refused("partition=0"),
        "mount option 'partition=0' is not valid: expected a number from 1 to 1048576"
    );
    assert_eq!(
        refused("partition"),
        "mount option 'partition' needs a value: partition=a number from 1 to 1048576"
    );
    assert_eq!(
        refused("engine=spdk"),
        "mount option 'engine=spdk' is not valid: expected auto or io_uring or pread"
    );
    assert_eq!(refused("nosuid=1"), "mount option 'nosuid' takes no value, but '1' was given");
    for list in
        ["cache=-1", "cache=1", "cache=99999T", "ttl=x", "threads=0", "max_read=2M", "journal=", "offset=1e3"]
    {
        parse(list).expect_err(list);
    }
}

#[test]
fn last_word_says_whether_the_mount_is_written() {
    for (list, read_only) in [("rw", false), ("rw,ro", true), ("ro,rw", false), ("", true)] {
        let options = parse(list).unwrap();
        assert_eq!(options.read_only, read_only, "{list}");
        assert_eq!(parse(&options.to_string()).unwrap(), options, "{list}");
    }
    assert!(refused("remount,ro").contains("homifs remount"));
}

#[test]
fn partition_and_offset_together_are_refused() {
    assert_eq!(
        refused("partition=1,offset=1M"),
        "mount options 'partition' and 'offset' exclude each other: give one of them"
    );
}

#[test]
fn tolerant_parsing_leaves_out_unknown_options_only() {
    let mut options = MountOptions::default();
    assert_eq!(options.apply_tolerant("ro,frobnicate=1,cache=2G,grpid").unwrap(), ["frobnicate"]);
    assert_eq!(options.cache, 2 << 30);
    MountOptions::default().apply_tolerant("cache=x").expect_err("a known option with a bad value");
}

#[test]
fn help_is_asked_for_by_its_own_word_only() {
    assert!(asks_for_help("ro,help"));
    assert!(!asks_for_help("ro,comment=help"));
}

#[test]
fn help_and_man_page_name_every_option_that_the_parser_suggests() {
    let (help, man) = (help_text(), man_section());
    for name in [
        "ro",
        "norecovery",
        "partition",
        "offset",
        "fs",
        "journal",
        "engine",
        "direct",
        "threads",
        "depth",
        "cache",
        "map_cache",
        "read_ahead",
        "max_read",
        "ttl",
        "allow_other",
        "log",
        "log_level",
        "nosuid",
        "suid",
        "nofail",
        "x-*",
    ] {
        assert!(help.contains(name) && man.contains(&name.replace('-', "\\-")), "{name}");
    }
    assert!(help.contains("[default: 256M]"), "{help}");
    assert!(help.lines().all(|line| line.len() <= 100), "{help}");
}

/// Options as people write them, sensible and not.
fn written() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "ro",
        "norecovery",
        "noload",
        "allow_other",
        "noallow_other",
        "default_permissions",
        "nodefault_permissions",
        "nosuid",
        "suid",
        "nodev",
        "dev",
        "noexec",
        "exec",
        "noatime",
        "atime",
        "relatime",
        "strictatime",
        "nodiratime",
        "sync",
        "async",
        "dirsync",
        "lazytime",
        "nosymfollow",
        "user",
        "users",
        "owner",
        "defaults",
        "nofail",
        "x-systemd.requires=/srv",
        "comment=any thing",
        "engine=auto",
        "engine=io_uring",
        "engine=pread",
        "direct=on",
        "direct=off",
        "fs=ext4",
        "fs=xfs",
        "log_level=warn",
        "journal=\"/a,b\"",
        "log=/tmp/log file",
    ])
    .prop_map(str::to_owned);
    let number = |name: &'static str, range: std::ops::RangeInclusive<u64>| {
        range.prop_map(move |value| format!("{name}={value}"))
    };
    prop_oneof![
        8 => words,
        1 => number("partition", 1..=1 << 20),
        1 => number("cache", 1 << 20..=1 << 40),
        1 => (1..=1024_u64).prop_map(|gib| format!("map_cache={gib}G")),
        1 => number("read_ahead", 0..=1 << 30),
        1 => number("max_read", 4096..=1 << 20),
        1 => number("ttl", 0..=365 * 86400),
        1 => number("threads", 1..=1024),
        1 => number("depth", 1..=4096),
    ]
}

proptest! {
    #[test]
    fn rendered_options_are_read_as_the_same(list in prop::collection::vec(written(), 0..12)) {
        let options = parse(&list.join(",")).unwrap();
        prop_assert_eq!(parse(&options.to_string()).unwrap(), options);
    }

    #[test]
    fn any_text_is_read_or_refused_without_panic(text in any::<String>()) {
        let _ = parse(&text).map(|options| options.to_string());
        let _ = MountOptions::default().apply_tolerant(&text);
        prop_assert!(split(&text).all(|part| !part.is_empty()));
    }
}

#[test]
fn depth_of_clients_that_is_no_power_of_two_is_refused_with_what_is_expected() {
    let told = refused("client_depth=100");
    assert!(told.contains("client_depth") && told.contains("power of two"), "{told}");
    assert_eq!(parse("client_depth=65536").unwrap().client_limits.depth, 65536);
}
