#![allow(
    clippy::unchecked_time_subtraction,
    reason = "a panic is a failed test"
)]

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn unknown_key() -> Error {
    Error::UnknownKey { key_id: "a".into() }
}

#[test]
fn a_set_is_due_then_fresh_then_stale() {
    let now = Instant::now();
    let mut refresh = KeyRefresh::default();
    assert_eq!(refresh.freshness(now), Freshness::Due);
    assert!(refresh.begin(now));
    refresh.succeeded(now, None);
    assert_eq!(refresh.freshness(now + 599 * SECOND), Freshness::Fresh);
    assert!(!refresh.begin(now + 599 * SECOND));
    assert_eq!(refresh.freshness(now + 600 * SECOND), Freshness::Stale);
    assert!(refresh.begin(now + 600 * SECOND));
}

#[test]
fn a_maximum_age_is_kept_within_bounds() {
    let now = Instant::now();
    for (given, kept) in [
        (0, 60),
        (60, 60),
        (300, 300),
        (86_400, 86_400),
        (u64::MAX, 86_400),
    ] {
        let mut refresh = KeyRefresh::default();
        refresh.succeeded(now, Some(Duration::from_secs(given)));
        assert_eq!(
            refresh.time_to_next(now),
            Duration::from_secs(kept),
            "{given}"
        );
    }
}

#[test]
fn there_is_one_fetch_at_a_time() {
    let now = Instant::now();
    let mut refresh = KeyRefresh::default();
    assert!(refresh.begin(now));
    assert!(!refresh.begin(now + SECOND));
    assert!(!refresh.begin_after(&unknown_key(), now + SECOND));
}

#[test]
fn a_fetch_that_never_ends_is_given_up() {
    let now = Instant::now();
    let mut refresh = KeyRefresh::default();
    assert!(refresh.begin(now));
    assert_eq!(refresh.time_to_next(now), 10 * SECOND);
    assert!(!refresh.begin(now + 9 * SECOND));
    assert!(refresh.begin(now + 10 * SECOND));
}

#[test]
fn refused_deliveries_cause_one_fetch_in_a_cool_down() {
    let start = Instant::now();
    let mut refresh = KeyRefresh::default();
    assert!(refresh.begin(start));
    refresh.succeeded(start, Some(86_400 * SECOND));
    let mut fetches = 0;
    for millisecond in 0..300_000 {
        let now = start + Duration::from_millis(millisecond);
        if refresh.begin_after(&unknown_key(), now) {
            fetches += 1;
            refresh.succeeded(now, Some(86_400 * SECOND));
        }
    }
    assert_eq!(fetches, 9, "one in 30 s, for 300 s after the first");
}

#[test]
fn errors_that_newer_keys_would_not_fix_cause_no_fetch() {
    let now = Instant::now();
    let mut refresh = KeyRefresh::default();
    let unrelated = Error::UnknownOrigin { reason: "" };
    assert!(!refresh.begin_after(&unrelated, now));
    assert!(refresh.begin_after(&Error::KeysUnavailable, now));
}

#[test]
fn failures_are_tried_again_later_and_later_while_the_old_set_serves() {
    let mut now = Instant::now();
    let mut refresh = KeyRefresh::default();
    refresh.succeeded(now, None);
    now += 600 * SECOND;
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        assert!(refresh.begin(now));
        refresh.failed(now, None);
        assert_eq!(refresh.freshness(now), Freshness::Stale);
        assert_eq!(refresh.time_to_next(now), wait * SECOND);
        assert!(
            !refresh.begin(
                (now + wait * SECOND)
                    .checked_sub(Duration::from_millis(1))
                    .unwrap()
            )
        );
        now += wait * SECOND;
    }
    assert!(refresh.begin(now));
    refresh.succeeded(now, None);
    assert_eq!(refresh.time_to_next(now), 600 * SECOND);
}

#[test]
fn failures_do_not_let_refused_deliveries_fetch_more_often() {
    let start = Instant::now();
    let mut refresh = KeyRefresh::default();
    refresh.succeeded(start, None);
    let mut fetches = 0;
    for second in 0..300 {
        let now = start + second * SECOND;
        if refresh.begin_after(&unknown_key(), now) {
            fetches += 1;
            refresh.failed(now, None);
        }
    }
    assert_eq!(fetches, 9, "one in 30 s, for 300 s after the first");
}

#[test]
fn a_fetch_that_a_delivery_caused_never_delays_the_periodic_one() {
    let start = Instant::now();
    let mut refresh = KeyRefresh::default();
    refresh.succeeded(start, None);
    // One a cool-down, for ten minutes: none of them comes back, or each fails.
    for comes_back in [false, true] {
        let mut periodic = 0;
        for second in 0..600 {
            let now = start + second * SECOND;
            if refresh.begin_after(&unknown_key(), now) && comes_back {
                refresh.failed(now + SECOND, None);
            }
            periodic += u32::from(refresh.begin(now));
        }
        assert_eq!(periodic, 0, "it is not due yet");
    }
    let due = start + 600 * SECOND;
    assert_eq!(refresh.time_to_next(due + 10 * SECOND), Duration::ZERO);
    assert!(refresh.begin(due + 10 * SECOND));
}

#[test]
fn a_lost_fetch_is_no_failure() {
    let now = Instant::now();
    let mut refresh = KeyRefresh::default();
    assert!(refresh.begin(now));
    assert!(refresh.begin(now + 10 * SECOND), "the first is lost");
    refresh.failed(now + 11 * SECOND, None);
    assert_eq!(refresh.time_to_next(now + 11 * SECOND), SECOND);
}

#[test]
fn times_count_from_the_end_of_a_fetch() {
    let now = Instant::now();
    let mut refresh = KeyRefresh::default();
    assert!(refresh.begin(now));
    let end = now + 5 * SECOND;
    refresh.failed(end, None);
    assert_eq!(refresh.time_to_next(end), SECOND);
    assert!(!refresh.begin_after(&unknown_key(), now + 34 * SECOND));
    assert!(refresh.begin_after(&unknown_key(), now + 35 * SECOND));
}

#[test]
fn a_source_that_asks_to_wait_is_left_alone_for_at_most_5_minutes() {
    for (asked, waited) in [(7, 7), (0, 1), (300, 300), (86_400, 300), (u64::MAX, 300)] {
        let now = Instant::now();
        let mut refresh = KeyRefresh::default();
        assert!(refresh.begin(now));
        refresh.failed(now, Some(Duration::from_secs(asked)));
        assert_eq!(refresh.time_to_next(now), waited * SECOND, "{asked}");
        let cool = waited.max(30) * SECOND;
        assert!(!refresh.begin_after(&unknown_key(), now + cool - SECOND));
        assert!(refresh.begin_after(&unknown_key(), now + cool));
    }
}

#[test]
fn a_stale_set_is_usable_for_a_time() {
    let now = Instant::now();
    for (refresh, hours) in [
        (KeyRefresh::default(), 48),
        (KeyRefresh::default().stale_for(3600 * SECOND), 1),
    ] {
        let mut refresh = refresh;
        refresh.succeeded(now, None);
        let end = now + 600 * SECOND + hours * 3600 * SECOND;
        assert_eq!(refresh.freshness(end - SECOND), Freshness::Stale);
        assert_eq!(refresh.freshness(end), Freshness::Due);
    }
}

#[test]
fn jitter_spreads_fetches_over_a_tenth_of_the_age() {
    let now = Instant::now();
    let times: Vec<Duration> = (0..1000)
        .map(|seed| {
            let mut refresh = KeyRefresh::default().jitter(seed * 0x9e37_79b9);
            refresh.succeeded(now, None);
            refresh.time_to_next(now)
        })
        .collect();
    let (first, last) = (times.iter().min().unwrap(), times.iter().max().unwrap());
    assert!(*first >= 540 * SECOND && *last <= 600 * SECOND);
    assert!(*last - *first > 50 * SECOND, "{first:?} to {last:?}");
}
