// A healthy, busy grpc-go client of grpc.testing.TestService: streams, cancellations, deadlines that expire,
// half-closes, large metadata, keepalive. Prints what came of its calls as a line of JSON; every end of a call
// that the client itself did not cause is listed.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"os"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	pb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

var (
	address = flag.String("address", "", "host:port to dial")
	hasty   = flag.Bool("hasty", false, "give up calls as fast as can be, not 450 of them a second at most")
)

const (
	workers  = 64
	hourInUs = 3_600_000_000 / 2 // of an int32
)

type tally struct {
	sync.Mutex
	counts     map[string]int
	unexpected []string
}

// end notes how a call ended, and whether that is what the client brought about.
func (t *tally) end(phase string, err error, allowed ...codes.Code) {
	if errors.Is(err, io.EOF) {
		err = nil
	}
	code := status.Code(err)
	t.Lock()
	defer t.Unlock()
	t.counts[phase+" "+code.String()]++
	for _, a := range allowed {
		if code == a {
			return
		}
	}
	if len(t.unexpected) < 20 {
		t.unexpected = append(t.unexpected, fmt.Sprintf("%s: %v", phase, err))
	}
}

// each runs n calls, 64 at a time, and so many a second at most unless that is 0.
func each(n, perSecond int, call func(i int)) {
	var group sync.WaitGroup
	begin := time.Now()
	next := make(chan int)
	for w := 0; w < workers; w++ {
		group.Add(1)
		go func() {
			defer group.Done()
			for i := range next {
				call(i)
			}
		}()
	}
	for i := 0; i < n; i++ {
		if perSecond > 0 && !*hasty {
			time.Sleep(time.Until(begin.Add(time.Duration(i) * time.Second / time.Duration(perSecond))))
		}
		next <- i
	}
	close(next)
	group.Wait()
}

func payload(size int) *pb.Payload { return &pb.Payload{Body: make([]byte, size)} }

// A stream whose server waits for half an hour before it says anything.
func sleepy() *pb.StreamingOutputCallRequest {
	return &pb.StreamingOutputCallRequest{
		ResponseParameters: []*pb.ResponseParameters{{Size: 1, IntervalUs: hourInUs}},
	}
}

func main() {
	flag.Parse()
	conn, err := grpc.NewClient("passthrough:///"+*address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDisableRetry(),
		// The library makes 10 s of anything shorter.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: time.Second, Timeout: 20 * time.Second, PermitWithoutStream: true}),
	)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	defer conn.Close()
	client := pb.NewTestServiceClient(conn)
	t := &tally{counts: map[string]int{}}
	ctx := context.Background()

	// Half the calls are taken back, at any time from before they are sent to after they are answered.
	each(4000, 900, func(i int) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		allowed := []codes.Code{codes.OK}
		if rand.Intn(2) == 0 {
			allowed = append(allowed, codes.Canceled)
			time.AfterFunc(time.Duration(rand.Intn(3000))*time.Microsecond, cancel)
		}
		_, err := client.UnaryCall(ctx, &pb.SimpleRequest{ResponseSize: 100, Payload: payload(100)})
		t.end("half cancelled", err, allowed...)
	})

	// A server that does not answer: every call meets its deadline.
	each(1500, 450, func(i int) {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
		defer cancel()
		stream, err := client.StreamingOutputCall(ctx, sleepy())
		if err == nil {
			_, err = stream.Recv()
		}
		t.end("deadlines", err, codes.DeadlineExceeded)
	})

	// Watches: the first message is enough.
	each(1500, 450, func(i int) {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		stream, err := client.FullDuplexCall(ctx)
		if err == nil {
			err = stream.Send(&pb.StreamingOutputCallRequest{ResponseParameters: []*pb.ResponseParameters{{Size: 10}}})
		}
		if err == nil {
			_, err = stream.Recv()
		}
		t.end("first message", err, codes.OK)
	})

	// Half-closes of every kind: after nothing, after one message, after several.
	each(1000, 0, func(i int) {
		stream, err := client.StreamingInputCall(ctx)
		for n := 0; err == nil && n < i%4; n++ {
			err = stream.Send(&pb.StreamingInputCallRequest{Payload: payload(n)})
		}
		if err == nil || errors.Is(err, io.EOF) {
			_, err = stream.CloseAndRecv()
		}
		t.end("half-closes", err, codes.OK)
	})

	// Metadata near to what servers take, another in every call.
	each(500, 0, func(i int) {
		pairs := make([]string, 0, 40)
		for n := 0; n < 20; n++ {
			pairs = append(pairs, fmt.Sprintf("x-meta-%d", n), strings.Repeat("v", 300)+fmt.Sprint(i))
		}
		ctx := metadata.AppendToOutgoingContext(ctx, pairs...)
		_, err := client.EmptyCall(ctx, &pb.Empty{})
		t.end("metadata", err, codes.OK)
	})

	// Many small messages, both ways at once.
	each(workers, 0, func(i int) {
		stream, err := client.FullDuplexCall(ctx)
		if err == nil {
			go func() {
				for n := 0; n < 200; n++ {
					request := &pb.StreamingOutputCallRequest{ResponseParameters: []*pb.ResponseParameters{{Size: 1}}}
					if stream.Send(request) != nil {
						return
					}
				}
				stream.CloseSend()
			}()
		}
		for err == nil {
			_, err = stream.Recv()
		}
		t.end("small messages", err, codes.OK)
	})

	// A thousand subscriptions that nothing comes of, given up together.
	subscribed, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	for i := 0; i < 1000; i++ {
		group.Add(1)
		go func() {
			defer group.Done()
			stream, err := client.StreamingOutputCall(subscribed, sleepy())
			if err == nil {
				_, err = stream.Recv()
			}
			t.end("subscriptions", err, codes.Canceled)
		}()
	}
	time.Sleep(2 * time.Second)
	cancel()
	group.Wait()

	_, err = client.EmptyCall(ctx, &pb.Empty{})
	t.end("last", err, codes.OK)
	json.NewEncoder(os.Stdout).Encode(map[string]any{"counts": t.counts, "unexpected": t.unexpected})
}
