//! Which snapshots stay. Sans-IO: snapshots and rules in, reasons out.
//!
//! As restic has it: snapshots of the same host and folders form a group. A rule `hourly 3` keeps the
//! last snapshot of each of the last three hours that have one, by UTC. What any rule keeps stays, and
//! the newest of each group always does. Weeks begin on Monday.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::snapshots::year_and_month;

/// One day.
const DAY: u64 = 86_400;

/// What is to be kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// So many of the newest.
    pub last: u32,
    /// The last one of so many hours.
    pub hourly: u32,
    /// The last one of so many days.
    pub daily: u32,
    /// The last one of so many weeks.
    pub weekly: u32,
    /// The last one of so many months.
    pub monthly: u32,
    /// The last one of so many years.
    pub yearly: u32,
    /// All that are at most so much older than the newest.
    pub within: Option<Duration>,
}

impl Rules {
    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A snapshot, as the rules see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    /// Seconds since 1970 and the nanoseconds after.
    pub(crate) time: (u64, u32),
    /// Host and folders.
    pub(crate) group: (String, Vec<Vec<u8>>),
}

/// A number that is equal for snapshots of the same hour, day, and so on.
type Period = fn(u64) -> u64;

const PERIODS: [(&str, Period); 6] = [
    // Every snapshot is a period of its own; see `judge_group`.
    ("last", |_| 0),
    ("hourly", |secs| secs / 3600),
    ("daily", |secs| secs / DAY),
    // 1970 began on a Thursday.
    ("weekly", |secs| (secs / DAY + 3) / 7),
    ("monthly", |secs| {
        let (year, month) = year_and_month(secs);
        u64::from(year.unsigned_abs()) * 12 + u64::from(month)
    }),
    ("yearly", |secs| u64::from(year_and_month(secs).0.unsigned_abs())),
];

/// Why each snapshot is kept, in the order given; those without a reason go.
pub(crate) fn judge(items: &[Item], rules: &Rules) -> Vec<Vec<&'static str>> {
    let mut reasons = vec![Vec::new(); items.len()];
    let mut groups: BTreeMap<&(String, Vec<Vec<u8>>), Vec<usize>> = BTreeMap::new();
    for (at, item) in items.iter().enumerate() {
        groups.entry(&item.group).or_default().push(at);
    }
    for mut group in groups.into_values() {
        // Newest first.
        group.sort_by_key(|at| std::cmp::Reverse((items[*at].time, *at)));
        judge_group(items, &group, rules, &mut reasons);
    }
    reasons
}

fn judge_group(items: &[Item], group: &[usize], rules: &Rules, reasons: &mut [Vec<&'static str>]) {
    let Some((newest, _)) = group.split_first() else { return };
    reasons[*newest].push("newest");
    let counts = [rules.last, rules.hourly, rules.daily, rules.weekly, rules.monthly, rules.yearly];
    for ((name, period), mut left) in PERIODS.into_iter().zip(counts) {
        let mut before = None;
        for (number, at) in group.iter().enumerate() {
            let of = if name == "last" { number as u64 } else { period(items[*at].time.0) };
            if left > 0 && before != Some(of) {
                reasons[*at].push(name);
                left -= 1;
            }
            before = Some(of);
        }
    }
    if let Some(within) = rules.within {
        let earliest = items[*newest].time.0.saturating_sub(within.as_secs());
        for at in group.iter().filter(|at| items[**at].time.0 >= earliest) {
            reasons[*at].push("within");
        }
    }
}

/// A length of time as it is typed: numbers with `y` (365 days), `m` (30 days), `w`, `d` or `h`, as in
/// `1y6m` or `36h`; none if it is something else.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let (mut total, mut number) = (0_u64, None::<u64>);
    for letter in text.chars() {
        let unit = match letter {
            'y' => 365 * DAY,
            'm' => 30 * DAY,
            'w' => 7 * DAY,
            'd' => DAY,
            'h' => 3600,
            digit => {
                let digit = u64::from(digit.to_digit(10)?);
                number = Some(number.unwrap_or(0).checked_mul(10)?.checked_add(digit)?);
                continue;
            }
        };
        total = total.checked_add(number.take()?.checked_mul(unit)?)?;
    }
    (number.is_none() && !text.is_empty()).then_some(Duration::from_secs(total))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn item((secs, host): (u64, bool)) -> Item {
        Item { time: (secs, 0), group: (host.to_string(), vec![]) }
    }

    fn items() -> impl Strategy<Value = Vec<Item>> {
        // Four years, with some within the same hour.
        vec((1_700_000_000_u64..1_826_000_000, any::<bool>()).prop_map(item), 0..60)
    }

    fn rules() -> impl Strategy<Value = Rules> {
        let counts = (0_u32..5, 0_u32..5, 0_u32..5, 0_u32..5, 0_u32..5, 0_u32..5);
        (counts, proptest::option::of(0_u64..50_000_000)).prop_map(
            |((last, hourly, daily, weekly, monthly, yearly), within)| Rules {
                last,
                hourly,
                daily,
                weekly,
                monthly,
                yearly,
                within: within.map(Duration::from_secs),
            },
        )
    }

    fn kept(items: &[Item], rules: &Rules) -> Vec<bool> {
        judge(items, rules).iter().map(|reasons| !reasons.is_empty()).collect()
    }

    proptest! {
        #[test]
        fn no_rule_forgets_what_another_keeps(items in items(), rules in rules(), more in rules()) {
            let most = |a: u32, b: u32| a.max(b);
            let both = Rules {
                last: most(rules.last, more.last),
                hourly: most(rules.hourly, more.hourly),
                daily: most(rules.daily, more.daily),
                weekly: most(rules.weekly, more.weekly),
                monthly: most(rules.monthly, more.monthly),
                yearly: most(rules.yearly, more.yearly),
                within: rules.within.max(more.within),
            };
            let either = kept(&items, &rules).into_iter().zip(kept(&items, &more)).map(|(a, b)| a || b);
            prop_assert_eq!(kept(&items, &both), either.collect::<Vec<_>>());
        }

        #[test]
        fn the_newest_of_every_group_always_stays(items in items(), rules in rules()) {
            let kept = kept(&items, &rules);
            for item in &items {
                let group = || items.iter().enumerate().filter(|(_, other)| other.group == item.group);
                let newest = group().max_by_key(|(at, other)| (other.time, *at)).map(|(at, _)| at);
                prop_assert!(newest.is_some_and(|at| kept[at]));
            }
        }

        #[test]
        fn the_order_of_the_list_does_not_matter(times in vec(0_u64..2_000_000_000, 0..30), rules in rules()) {
            let mut items: Vec<_> = times.into_iter().map(|secs| item((secs, true))).collect();
            items.sort_by_key(|item| item.time);
            items.dedup();
            let forward = kept(&items, &rules);
            items.reverse();
            let mut backward = kept(&items, &rules);
            backward.reverse();
            prop_assert_eq!(forward, backward);
        }
    }

    #[test]
    fn each_rule_keeps_the_last_of_its_periods() {
        let hour = |hours: u64| item((1_800_000_000 / DAY * DAY + hours * 3600, true));
        let items = [hour(0), hour(1), hour(23), hour(24), hour(49)];
        let daily = judge(&items, &Rules { daily: 2, ..Rules::default() });
        assert_eq!(daily, [vec![], vec![], vec![], vec!["daily"], vec!["newest", "daily"]]);
        let last = judge(&items, &Rules { last: 2, ..Rules::default() });
        assert_eq!(last[3], ["last"]);
        let within = Rules { within: Some(Duration::from_secs(26 * 3600)), ..Rules::default() };
        assert_eq!(judge(&items, &within)[2..], [vec!["within"], vec!["within"], vec!["newest", "within"]]);
    }

    #[test]
    fn durations_are_numbers_with_units() {
        assert_eq!(parse_duration("1d12h"), Some(Duration::from_secs(DAY + 12 * 3600)));
        assert_eq!(parse_duration("2y1m1w"), Some(Duration::from_secs((730 + 30 + 7) * DAY)));
        for bad in ["", "5", "d", "1x", "1d5", "-1d", "99999999999999999999y"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
