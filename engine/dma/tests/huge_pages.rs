//! Memory in huge pages, as the kernel tells of it.

use std::fs;
use std::sync::Arc;

use engine_dma::Region;

const POOL: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";
const TRANSPARENT: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// Huge pages that are set aside and free.
fn free() -> u64 {
    fs::read_to_string(POOL).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// What /proc/self/smaps says of the mapping that a region lies in.
fn told(region: &Region, what: &str) -> String {
    let address = region.base().addr().get();
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let begins_with_it = |line: &str| {
        let range = line.split(' ').next().and_then(|range| range.split_once('-'));
        let number = |text| usize::from_str_radix(text, 16).ok();
        range
            .and_then(|(start, end)| Some(number(start)?..number(end)?))
            .is_some_and(|range| range.contains(&address))
    };
    let mut lines = smaps.lines().skip_while(|line| !begins_with_it(line));
    lines.find_map(|line| line.strip_prefix(what)).unwrap().trim().to_owned()
}

/// Private and shared memory of this many bytes, which is zero and holds what is written.
fn both(length: usize) -> [Arc<Region>; 2] {
    let regions =
        [Region::private_huge(length).unwrap(), Region::shared_huge(c"huge-pages", length).unwrap()];
    for region in &regions {
        assert_eq!(region.length(), length);
        for at in [0, length / 2, length - 8] {
            let mut bytes = [1; 8];
            region.read(at, &mut bytes).unwrap();
            assert_eq!(bytes, [0; 8]);
            region.write(at, &[7; 8]).unwrap();
            region.read(at, &mut bytes).unwrap();
            assert_eq!(bytes, [7; 8]);
        }
    }
    regions
}

#[test]
fn memory_of_whole_huge_pages_lies_in_them_where_they_are_free() {
    if free() < 4 {
        println!("skipped: fewer than 4 huge pages of 2 MiB are free");
        return;
    }
    for region in both(4 << 20) {
        assert_eq!(told(&region, "KernelPageSize:"), "2048 kB");
        let (file, offset) = match region.file() {
            Some((file, offset)) => (file.try_clone_to_owned().unwrap(), offset),
            None => continue,
        };
        let again = Region::map(file, offset, 4 << 20, region.access()).unwrap();
        assert_eq!(again.load_u32(2 << 20), Some(0x0707_0707), "others map it as it is");
    }
}

#[test]
fn memory_for_which_no_huge_pages_are_free_is_plain_and_may_become_huge() {
    if free() > 0 {
        println!("skipped: huge pages are free");
        return;
    }
    if !fs::exists(TRANSPARENT).unwrap_or(false) {
        println!("skipped: this kernel makes no huge pages");
        return;
    }
    for region in both(4 << 20) {
        assert_eq!(told(&region, "KernelPageSize:"), "4 kB");
        let flags = told(&region, "VmFlags:");
        assert!(flags.split(' ').any(|flag| flag == "hg"), "{flags}");
    }
}

#[test]
fn memory_that_is_less_than_a_huge_page_asks_for_none() {
    for region in both(1 << 20) {
        assert_eq!(told(&region, "KernelPageSize:"), "4 kB");
        let flags = told(&region, "VmFlags:");
        assert!(!flags.split(' ').any(|flag| flag == "hg"), "{flags}");
    }
}
