// The plugins written in Go, and the small package for the ABI that they share. Nothing but the standard
// library is used, so there is no go.sum.
module plugins

go 1.24
