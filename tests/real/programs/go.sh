# needs: go
export GOCACHE=$PWD/cache GOFLAGS=-mod=mod GO111MODULE=on
cat >go.mod <<'X'
module x
go 1.18
X
cat >main.go <<'X'
package main

import ("fmt"; "io"; "net"; "net/http"; "os/exec"; "sort"; "sync")

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil { panic(err) }
	go http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprintf(w, "hello %s", r.URL.Path) }))
	var wg sync.WaitGroup
	var mu sync.Mutex
	var got []string
	for i := 0; i < 50; i++ {
		wg.Add(1)
		go func(i int) {
			defer wg.Done()
			r, err := http.Get(fmt.Sprintf("http://%s/%02d", l.Addr(), i))
			if err != nil { panic(err) }
			b, _ := io.ReadAll(r.Body)
			r.Body.Close()
			mu.Lock(); got = append(got, string(b)); mu.Unlock()
		}(i)
	}
	wg.Wait()
	sort.Strings(got)
	fmt.Println(got)
	out, err := exec.Command("sh", "-c", "echo from a shell; exit 3").CombinedOutput()
	fmt.Printf("%s%v\n", out, err)
}
X
go build -o x . && ./x
