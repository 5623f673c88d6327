// The inventory call over Thrift. Field numbers are for ever: a field that goes leaves its number.
namespace py inventory_thrift

struct Line {
  1: string product_id
  2: i64 quantity
}

struct HoldRequest {
  1: string hold_id
  2: list<Line> lines
  3: double ttl_s
  // Thrift has no deadline of its own. Milliseconds the caller will still wait; absent: for ever.
  4: optional i32 timeout_ms
}

exception Refused {
  1: string kind
  2: string code
  3: string message
}

service Inventory {
  bool hold(1: HoldRequest request) throws (1: Refused refused)
  map<string, i64> levels(1: list<string> product_ids) throws (1: Refused refused)
}
