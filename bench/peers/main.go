// Command peers does with go-control-plane's caches what the benches in this folder do with ours, on the same resources.
//
// `peers measure` opens watches in this process and prints one JSON line per measurement; `peers serve` serves delta ADS on
// a TCP port and changes a resource when a line on standard input says so.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: peers measure|serve [flags]"))
	}
	switch command, args := os.Args[1], os.Args[2:]; command {
	case "measure":
		fail(measure(args))
	case "serve":
		fail(serve(args))
	default:
		fail(fmt.Errorf("no such command: %s", command))
	}
}

func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
