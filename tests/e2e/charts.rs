//! stub
#[test]
fn x() {}
