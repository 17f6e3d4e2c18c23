package main

import (
	"bufio"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"strings"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/v3"
	"google.golang.org/grpc"
)

// serve serves a cache over gRPC until standard input ends. It prints the address it listens on; then each line that it
// reads names a kind of change (`endpoint` or `route`), or is `collect`: collect garbage, give memory back, and answer with a line.
func serve(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	folder := flags.String("world", "", "folder with resources.pb and changes.pb")
	name := flags.String("cache", "snapshot", "snapshot or linear")
	if err := flags.Parse(args); err != nil {
		return err
	}
	from, err := load(*folder)
	if err != nil {
		return err
	}
	peer, err := newPeer(*name, from)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	grpcServer := grpc.NewServer(grpc.MaxRecvMsgSize(64<<20), grpc.MaxConcurrentStreams(1<<20))
	discovery.RegisterAggregatedDiscoveryServiceServer(grpcServer, server.NewServer(context.Background(), peer, nil))
	go func() { fail(grpcServer.Serve(listener)) }()
	fmt.Println(listener.Addr())

	shapes := map[string]int{}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		switch line := strings.TrimSpace(lines.Text()); line {
		case "collect":
			debug.FreeOSMemory()
			fmt.Println("collected")
		default:
			shapes[line] = 1 - shapes[line]
			if err := peer.flip(line, shapes[line]); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}
