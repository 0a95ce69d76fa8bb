//! Memory of somebody else's that goes away while it is used.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::atomic::Ordering;

use engine_dma::{Access, PAGE, Region};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

fn file_of(pages: usize) -> File {
    let file = File::from(memfd_create(c"others", MemfdFlags::CLOEXEC).unwrap());
    file.set_len((pages * PAGE).try_into().unwrap()).unwrap();
    file
}

#[test]
fn file_made_shorter_under_a_mapping_reads_as_zeros_and_marks_the_region() {
    let file = file_of(4);
    let region = Region::map(file.try_clone().unwrap().into(), 0, 4 * PAGE, Access::ReadWrite).unwrap();
    region.fill(0, 4 * PAGE, 0x5a).unwrap();
    ftruncate(&file, PAGE.try_into().unwrap()).unwrap();
    assert!(!region.is_damaged());

    let mut bytes = vec![1; 4 * PAGE];
    region.read(0, &mut bytes).unwrap();
    assert!(region.is_damaged());
    assert!(bytes[..PAGE].iter().all(|&byte| byte == 0x5a), "what is still there arrives");
    assert!(bytes[PAGE..].iter().all(|&byte| byte == 0), "what is gone reads as zeros");

    // Writes, too, and atomics.
    region.write(3 * PAGE, &[7; 16]).unwrap();
    region.u32_at(2 * PAGE).unwrap().store(9, Ordering::Relaxed);
    assert_eq!(region.load_u32(2 * PAGE), Some(9));
}

#[test]
fn huge_pages_taken_away_read_as_zeros() {
    const HUGE: usize = 2 << 20;
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    let Ok(file) = memfd_create(c"others", flags).map(File::from) else {
        println!("skipped: the kernel has no huge pages of 2 MiB");
        return;
    };
    file.set_len((2 * HUGE).try_into().unwrap()).unwrap();
    let map =
        |offset, length| Region::map(file.try_clone().unwrap().into(), offset, length, Access::ReadWrite);
    assert_eq!(map(4096, HUGE).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    assert_eq!(map(0, PAGE).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    let region = match map(0, 2 * HUGE) {
        Ok(region) => region,
        Err(error) => {
            println!("skipped: no two huge pages of 2 MiB are free: {error}");
            return;
        }
    };
    region.fill(0, 2 * HUGE, 0x5a).unwrap();
    ftruncate(&file, HUGE.try_into().unwrap()).unwrap();
    let mut bytes = [1; PAGE];
    region.read(HUGE + 3 * PAGE, &mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 0), "what is gone reads as zeros");
    assert!(region.is_damaged());
    region.write(2 * HUGE - 8, &[7; 8]).unwrap();
    region.read(HUGE - PAGE, &mut bytes).unwrap();
    assert!(bytes.iter().all(|&byte| byte == 0x5a), "what is still there arrives");
}

#[test]
fn region_for_reading_only_lost_reads_as_zeros() {
    let file = file_of(1);
    let region = Region::map(file.try_clone().unwrap().into(), 0, PAGE, Access::Read).unwrap();
    ftruncate(&file, 0).unwrap();
    assert_eq!(region.load_u32(8), Some(0));
    assert!(region.is_damaged());
    assert!(region.u32_at(8).is_none(), "it cannot be written");
    assert!(region.write(8, &[1]).is_err());
}

#[test]
fn mapping_more_than_the_file_has_is_refused() {
    let file = file_of(2);
    let map = |offset, length| Region::map(file.try_clone().unwrap().into(), offset, length, Access::Read);
    for (offset, length) in
        [(0, 3 * PAGE), (8192, PAGE), (100, PAGE), (0, 100), (0, 0), (u64::MAX - 4095, PAGE)]
    {
        assert_eq!(map(offset, length).unwrap_err().raw_os_error(), Some(libc::EINVAL), "{offset} {length}");
    }
    assert!(map(4096, PAGE).is_ok());
}

#[test]
fn shared_region_cannot_be_made_shorter_by_whoever_it_is_given_to() {
    let region = Region::shared(c"ours", PAGE + 1).unwrap();
    assert_eq!(region.length(), 2 * PAGE);
    let (file, offset) = region.file().unwrap();
    assert_eq!(offset, 0);
    let theirs = File::from(file.as_fd().try_clone_to_owned().unwrap());
    assert!(ftruncate(&theirs, 0).is_err());
    let mapped = Region::map(theirs.into(), 4096, PAGE, Access::ReadWrite).unwrap();
    mapped.write(3, b"seen").unwrap();
    let mut seen = [0; 4];
    region.read(PAGE + 3, &mut seen).unwrap();
    assert_eq!(&seen, b"seen");
}

#[test]
fn copies_beyond_the_end_or_onto_themselves_are_refused() {
    let region = Region::private(2 * PAGE).unwrap();
    assert!(region.read(2 * PAGE - 3, &mut [0; 4]).is_err());
    assert!(region.write(usize::MAX, &[0; 2]).is_err());
    assert!(region.copy_to(0, &region, 100, 101).is_err());
    assert!(region.copy_to(0, &region, PAGE, PAGE).is_ok());
    assert!(region.u64s_at(4, 1).is_none() && region.u64s_at(2 * PAGE - 8, 2).is_none());
    assert!(region.u32_at(2).is_none());
}

#[test]
fn shown_region_can_be_read_and_not_written_by_others() {
    let region = Region::shown(c"ours", PAGE).unwrap();
    region.write(5, b"told").unwrap();
    let theirs = || region.file().unwrap().0.try_clone_to_owned().unwrap();
    assert!(Region::map(theirs(), 0, PAGE, Access::ReadWrite).is_err());
    let seen = Region::map(theirs(), 0, PAGE, Access::Read).unwrap();
    let mut bytes = [0; 4];
    seen.read(5, &mut bytes).unwrap();
    assert_eq!(&bytes, b"told");
    assert!(File::from(theirs()).set_len(0).is_err());
}
