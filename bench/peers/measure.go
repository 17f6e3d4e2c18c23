package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/stream/v3"
	"google.golang.org/protobuf/proto"
)

// result is one line of output. Times are in microseconds, from the change to the last stream's acknowledgement: the lesser
// of what passed and what this process was on all processors. On an idle machine with several the first is; on a busy one,
// where the first says little, the second, as if there were one processor and nobody else.
type result struct {
	Peer      string  `json:"peer"`
	Change    string  `json:"change"`
	Names     string  `json:"names"`
	Resources int     `json:"resources"`
	Streams   int     `json:"streams"`
	Rounds    int     `json:"rounds"`
	Median    float64 `json:"median_us"`
	Low       float64 `json:"p10_us"`
	High      float64 `json:"p90_us"`
	Allocated uint64  `json:"allocated_bytes"`
	Bytes     int     `json:"response_bytes"`
}

func measure(args []string) error {
	flags := flag.NewFlagSet("measure", flag.ExitOnError)
	folder := flags.String("world", "", "folder with resources.pb and changes.pb")
	name := flags.String("cache", "snapshot", "snapshot or linear")
	kind := flags.String("change", "endpoint", "endpoint, route, or cold: all of it for the first time")
	names := flags.String("names", "explicit", "how endpoints are subscribed: explicit or wildcard")
	streams := flags.Int("streams", 1, "how many Envoys")
	rounds := flags.Int("rounds", 200, "changes at most")
	budget := flags.Duration("budget", 5*time.Second, "no new change after this long, once there were ten")
	if err := flags.Parse(args); err != nil {
		return err
	}
	from, err := load(*folder)
	if err != nil {
		return err
	}
	var envoys []*envoy
	var round sync.WaitGroup
	connect := func() error {
		peer, err := newPeer(*name, from)
		if err != nil {
			return err
		}
		for _, old := range envoys {
			close(old.answers)
		}
		envoys = make([]*envoy, *streams)
		for place := range envoys {
			envoys[place] = newEnvoy(peer, from, place, *names == "wildcard", &round)
		}
		round.Wait()
		return nil
	}
	if err := connect(); err != nil {
		return err
	}
	times := []float64{}
	shape := 0
	var size int
	change := func() (time.Duration, error) {
		began, processor := time.Now(), processorTime()
		if *kind == "cold" {
			err := connect()
			return lesser(began, processor), err
		}
		shape = 1 - shape
		round.Add(len(envoys))
		if err := envoys[0].peer.flip(*kind, shape); err != nil {
			return 0, err
		}
		round.Wait()
		return lesser(began, processor), nil
	}
	for range 3 {
		if _, err := change(); err != nil {
			return err
		}
	}
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	allocated := stats.TotalAlloc
	for began := time.Now(); len(times) < *rounds && (len(times) < 10 || time.Since(began) < *budget); {
		took, err := change()
		if err != nil {
			return err
		}
		times = append(times, float64(took.Nanoseconds())/1000)
	}
	runtime.ReadMemStats(&stats)
	for _, envoy := range envoys {
		size = max(size, envoy.size)
	}
	slices.Sort(times)
	at := func(share float64) float64 { return times[int(share*float64(len(times)-1))] }
	return json.NewEncoder(os.Stdout).Encode(result{
		Peer: *name, Change: *kind, Names: *names, Resources: len(from.byType[resource.ClusterType]), Streams: *streams,
		Rounds: len(times), Median: at(0.5), Low: at(0.1), High: at(0.9),
		Allocated: (stats.TotalAlloc - allocated) / uint64(len(times)), Bytes: size,
	})
}

func lesser(began time.Time, processor time.Duration) time.Duration {
	return min(time.Since(began), processorTime()-processor)
}

// processorTime is what this process was on processors.
func processorTime() time.Duration {
	var usage syscall.Rusage
	fail(syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// envoy is the cache's side of one delta ADS stream: what go-control-plane's server keeps for it and does with it, without
// the sockets. Each has a goroutine of its own, as there.
type envoy struct {
	peer    *peer
	node    *core.Node
	answers chan cache.DeltaResponse
	types   map[string]*stream.Subscription
	nonce   int
	// The size of the last response.
	size int
}

// newEnvoy subscribes to everything, as an Envoy does: clusters and listeners by wildcard, the rest by name. Each response,
// the first ones too, is counted in the group when it is acknowledged and the next watch is open.
func newEnvoy(peer *peer, from *world, place int, wildcard bool, group *sync.WaitGroup) *envoy {
	made := &envoy{
		peer: peer,
		node: &core.Node{Id: "envoy-" + strconv.Itoa(place)},
		// As large as the server's: SetSnapshot blocks on it with the cache's lock held.
		answers: make(chan cache.DeltaResponse, 32),
		types:   map[string]*stream.Subscription{},
	}
	urls := []string{resource.ClusterType, resource.EndpointType, resource.ListenerType, resource.RouteType}
	group.Add(len(urls))
	go func() {
		for answer := range made.answers {
			fail(made.answer(answer))
			group.Done()
		}
	}()
	for _, url := range urls {
		var names []string
		if url == resource.RouteType || (url == resource.EndpointType && !wildcard) {
			names = from.names(url)
		} else if url == resource.EndpointType {
			names = []string{"*"}
		}
		state := stream.NewDeltaSubscription(names, nil, nil, true)
		made.types[url] = &state
	}
	for _, url := range urls {
		fail(made.watch(url, ""))
	}
	return made
}

func (e *envoy) watch(url, nonce string) error {
	request := &cache.DeltaRequest{Node: e.node, TypeUrl: url, ResponseNonce: nonce}
	_, err := e.peer.CreateDeltaWatch(request, *e.types[url], e.answers)
	return err
}

// answer makes the bytes that gRPC would write, and does what the server does with the client's acknowledgement.
func (e *envoy) answer(answer cache.DeltaResponse) error {
	url := answer.GetDeltaRequest().GetTypeUrl()
	response, err := answer.GetDeltaDiscoveryResponse()
	if err != nil {
		return err
	}
	e.nonce++
	response.Nonce = strconv.Itoa(e.nonce)
	bytes, err := proto.Marshal(response)
	if err != nil {
		return err
	}
	if len(response.GetResources()) == 0 && e.nonce > len(e.types) {
		return fmt.Errorf("an empty response of %s", url)
	}
	e.size = len(bytes)
	watched := e.types[url]
	watched.SetReturnedResources(answer.GetNextVersionMap())
	watched.UpdateResourceSubscriptions(nil, nil)
	return e.watch(url, response.Nonce)
}
