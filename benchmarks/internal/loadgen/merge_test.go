package loadgen

import (
	"reflect"
	"testing"
)

func TestMergeAddsWhatCanBeAdded(t *testing.T) {
	windows := []Result{
		{Ops: 1, Seconds: 2, P50: 30, P99: 50, P999: 70, ServerCPU: 3, ClientCPU: 4, Busy: 5, Steal: 6, Lost: 7, Cipher: "c"},
		{Ops: 10, Seconds: 20, P50: 10, P99: 52, P999: 60, ServerCPU: 30, ClientCPU: 40, Busy: 50, Steal: 60, Lost: 70, Cipher: "c"},
		{P50: 20, P99: 51, P999: 80, BytesPerConn: 0},
	}
	want := Result{
		Ops: 11, Seconds: 22, P50: 20, P99: 51, P999: 70, ServerCPU: 33, ClientCPU: 44, Busy: 55, Steal: 66, Lost: 77, Cipher: "c",
	}
	if got := Merge(windows); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if one := (Result{Ops: 5, BytesPerConn: 4321.5}); !reflect.DeepEqual(Merge([]Result{one}), one) {
		t.Error("one window is itself")
	}
}
