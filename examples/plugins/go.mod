// The plugins written in Go. fault-injection stands on the official SDK, whose releases have no numbers yet: a
// commit is named. access-log shows the bare ABI, through a small package of its own.
module plugins

go 1.24

require github.com/proxy-wasm/proxy-wasm-go-sdk v0.0.0-20250212164326-ab4161dcf924
