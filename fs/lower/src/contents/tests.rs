use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use extents_core::{Extent, ExtentFlags, ExtentMapBuilder};

use super::*;
use crate::Result;

fn map(_changes: u32, _look: bool) -> Result<Option<Loaded>> {
    Ok(Some(Loaded::default()))
}

/// A file of 100 bytes in a block that another one has, too.
fn shared(_changes: u32, _look: bool) -> Result<Option<Loaded>> {
    let mut builder = ExtentMapBuilder::new(100, 0_u32, 1 << 20);
    builder.push(Extent { logical: 0, physical: 8192, length: 4096, flags: ExtentFlags::SHARED }).unwrap();
    Ok(Some(Loaded { map: builder.finish(), ..Loaded::default() }))
}

#[test]
fn read_while_somebody_may_write_is_not_let_in() {
    let contents = Contents::default();
    let reader = contents.opened(7, Access::Read).unwrap();
    assert!(reader.read(map).unwrap().is_some());
    let _writer = contents.opened(7, Access::Write).unwrap();
    assert!(reader.read(map).unwrap().is_none());
    contents.closed(7, Access::Write);
    assert!(reader.read(map).unwrap().is_some());
}

#[test]
fn map_after_a_writer_is_asked_for_anew() {
    let contents = Contents::default();
    let reader = contents.opened(7, Access::Read).unwrap();
    drop(reader.read(map).unwrap());
    assert!(reader.read(|_, _| panic!("the map is known")).unwrap().is_some());
    drop(contents.change(7).unwrap());
    let mut asked = false;
    let again = reader.read(|changes, look| {
        asked = true;
        map(changes, look)
    });
    assert!(again.unwrap().is_some() && asked);
}

#[test]
fn file_that_is_opened_during_a_change_has_no_map_yet() {
    let contents = Contents::default();
    let change = contents.change(7).unwrap();
    let reader = contents.opened(7, Access::Read).unwrap();
    assert!(reader.read(map).unwrap().is_none());
    drop(change);
    assert!(reader.read(map).unwrap().is_some());
    contents.closed(7, Access::Read);
    assert_eq!(contents.open_count(), 0);
}

#[test]
fn change_waits_for_reads_that_are_under_way() {
    let contents = Arc::new(Contents::default());
    let reader = contents.opened(7, Access::Read).unwrap();
    let guard = reader.read(map).unwrap().unwrap();
    let changed = Arc::new(AtomicBool::new(false));
    let changing = thread::spawn({
        let (contents, changed) = (Arc::clone(&contents), Arc::clone(&changed));
        move || {
            let _alone = contents.change(7).unwrap();
            changed.store(true, Ordering::SeqCst);
        }
    });
    thread::sleep(Duration::from_millis(50));
    assert!(!changed.load(Ordering::SeqCst), "the read is not over");
    drop(guard);
    changing.join().unwrap();
    assert!(changed.load(Ordering::SeqCst));
}

#[test]
fn growth_waits_for_nobody_and_the_next_map_is_a_new_one() {
    let contents = Contents::default();
    let told = Arc::new(AtomicU32::new(0));
    contents.on_growth({
        let told = Arc::clone(&told);
        move |ino| {
            assert_eq!(ino, 7);
            told.fetch_add(1, Ordering::SeqCst);
        }
    });
    let reader = contents.opened(7, Access::Read).unwrap();
    let before = contents.changes(7, false);
    let guard = reader.read(map).unwrap().unwrap();
    drop(contents.grow(7).unwrap());
    assert_eq!(told.load(Ordering::SeqCst), 1, "whoever reads by the old map is told");
    assert_ne!(contents.changes(7, false), before);
    let mut asked = false;
    let again = reader.read(|changes, look| {
        asked = true;
        map(changes, look)
    });
    assert!(again.unwrap().is_some() && asked);
    drop(guard);
}

#[test]
fn growth_from_a_shared_block_recalls_since_that_block_moves() {
    let contents = Arc::new(Contents::default());
    let reader = contents.opened(7, Access::Read).unwrap();
    let guard = reader.read(shared).unwrap().unwrap();
    let held = parking_lot::Mutex::new(Some(guard));
    let recalled = Arc::new(AtomicBool::new(false));
    contents.on_change({
        let recalled = Arc::clone(&recalled);
        move |_| {
            recalled.store(true, Ordering::SeqCst);
            held.lock().take();
        }
    });
    assert!(matches!(contents.grow(7).unwrap(), GrowthGuard::Changes(_)));
    assert!(recalled.load(Ordering::SeqCst));
}

#[test]
fn map_that_the_volume_disputes_lets_nobody_in_until_the_file_changes() {
    let contents = Contents::default();
    let reader = contents.opened(7, Access::Read).unwrap();
    let disputed = |_, _| Ok(Some(Loaded { disputed: true, ..Loaded::default() }));
    assert!(reader.read(disputed).unwrap().is_none());
    assert!(reader.read(|_, _| panic!("it was asked")).unwrap().is_none());
    assert!(contents.standing(7).unwrap().disputed);
    drop(contents.change(7).unwrap());
    assert!(reader.read(map).unwrap().is_some());
}

#[test]
fn dispute_about_a_file_that_was_closed_lasts_until_it_changes() {
    let contents = Contents::default();
    contents.dispute(7);
    let reader = contents.opened(7, Access::Read).unwrap();
    assert!(reader.read(map).unwrap().is_none());
    drop(contents.change(7).unwrap());
    assert!(reader.read(map).unwrap().is_some());
}

#[test]
fn mapping_that_outlives_its_open_keeps_everybody_out_and_an_append_is_none() {
    let contents = Contents::default();
    let reader = contents.opened(7, Access::Read).unwrap();
    // Somebody opened it for writing, mapped it, and closed it.
    contents.opened(7, Access::Write).unwrap();
    contents.closed(7, Access::Write);
    assert!(
        reader
            .read(|_, look| {
                assert!(look);
                Ok(None)
            })
            .unwrap()
            .is_none()
    );
    // Looked at before the append, it turns out that the mapping is still there.
    contents.opened(7, Access::Append).unwrap().look_before_append(|| false);
    assert!(
        reader
            .read(|_, look| {
                assert!(look);
                Ok(None)
            })
            .unwrap()
            .is_none()
    );
    contents.closed(7, Access::Append);
    // And now it is gone.
    contents.opened(7, Access::Append).unwrap().look_before_append(|| true);
    assert!(
        reader
            .read(|_, look| {
                assert!(!look);
                map(0, look)
            })
            .unwrap()
            .is_some()
    );
}

#[test]
fn changes_are_counted_also_for_files_that_were_closed_between() {
    let contents = Contents::default();
    let before = contents.changes(7, false);
    contents.opened(7, Access::Write).unwrap();
    let during = contents.changes(7, false);
    assert_ne!(contents.changes(7, false), during, "a writer may have written since");
    contents.closed(7, Access::Write);
    let after = contents.changes(7, false);
    assert!(before < during && during < after);
    assert_eq!(contents.changes(7, false), after);
    contents.opened(7, Access::Read).unwrap();
    assert_eq!(contents.changes(7, false), after, "reading changes nothing");
}

#[test]
fn file_that_nobody_has_open_is_forgotten() {
    let contents = Contents::default();
    let _first = contents.opened(7, Access::Write).unwrap();
    let _second = contents.opened(7, Access::Append).unwrap();
    contents.closed(7, Access::Write);
    assert_eq!(contents.open_count(), 1);
    assert!(contents.is_written(7));
    contents.closed(7, Access::Append);
    assert_eq!(contents.open_count(), 0);
}

#[test]
fn map_whose_end_is_shared_is_given_to_nobody_while_the_file_grows() {
    let contents = Contents::default();
    let reader = contents.opened(7, Access::Read).unwrap();
    let growing = contents.grow(7).unwrap();
    assert!(reader.read(shared).unwrap().is_none(), "the append moves the last block");
    drop(growing);
    assert!(reader.read(shared).unwrap().is_some());
}

#[test]
fn growth_after_a_copy_recalls_who_read_before_it() {
    let contents = Arc::new(Contents::default());
    let reader = contents.opened(7, Access::Read).unwrap();
    let held = parking_lot::Mutex::new(reader.read(map).unwrap());
    assert!(held.lock().is_some());
    let recalled = Arc::new(AtomicBool::new(false));
    contents.on_change({
        let recalled = Arc::clone(&recalled);
        move |_| {
            recalled.store(true, Ordering::SeqCst);
            held.lock().take();
        }
    });
    assert!(matches!(contents.share(7).unwrap(), SharingGuard::Shares(_)));
    assert!(!recalled.load(Ordering::SeqCst), "the copy itself moves nothing");
    assert!(matches!(contents.grow(7).unwrap(), GrowthGuard::Changes(_)));
    assert!(recalled.load(Ordering::SeqCst));
}

#[test]
fn copy_from_a_file_that_grows_is_a_change_of_it() {
    let contents = Contents::default();
    let growing = contents.grow(7).unwrap();
    assert!(matches!(contents.share(7).unwrap(), SharingGuard::Changes(_)));
    drop(growing);
    assert_eq!(contents.open_count(), 0);
}

#[test]
fn change_under_a_read_that_never_ends_is_refused_and_leaves_nothing_behind() {
    let contents = Contents { recall_limit: Duration::from_millis(30), ..Contents::default() };
    let reader = contents.opened(7, Access::Read).unwrap();
    let guard = reader.read(map).unwrap();
    assert!(guard.is_some());
    assert_eq!(contents.change(7).map(drop), Err(Errno::IO));
    assert_eq!(contents.opened(7, Access::Write).map(drop), Err(Errno::IO));
    assert!(!contents.is_written(7), "nobody waits any more");
    drop(guard);
    assert!(contents.change(7).is_ok());
    contents.closed(7, Access::Read);
    assert_eq!(contents.open_count(), 0);
}

#[test]
fn map_that_takes_long_to_be_had_holds_up_nobody_and_is_not_used_when_it_is_old() {
    let contents = Arc::new(Contents::default());
    let reader = contents.opened(7, Access::Read).unwrap();
    let mut asked = 0;
    let guard = reader.read(|changes, look| {
        asked += 1;
        if asked == 1 {
            // Written back meanwhile; somebody else looks at the file, writes it and is through.
            assert!(!contents.is_written(7));
            drop(contents.change(7).unwrap());
        }
        map(changes, look)
    });
    assert!(guard.unwrap().is_some());
    assert_eq!(asked, 2);
}
