package main
import ("testing";"os/exec";"time";"strings")
func TestDbg(t *testing.T){
	x, _ := startPair(findPeer("gorilla")); defer x.stop()
	x.connect(9,1,0); x.connect(1,1,1)
	port := strings.Split(x.addr,":")[1]
	total:=uint64(0)
	for i:=0;i<12;i++{
		a,_,err:=x.measured(serveOrder{Op:"publish",Topics:1,Members:9,InFlight:8,Seconds:0.3},false)
		total+=a.Published
		u,_:=x.report(false)
		out,_:=exec.Command("ss","-tnm","sport = :"+port).CombinedOutput()
		worst:=""
		lines:=strings.Split(string(out),"\n")
		for j,l:=range lines { f:=strings.Fields(l); if len(f)>3&&f[0]=="ESTAB"&&f[2]!="0"{worst+=l+lines[j+1]} }
		t.Log(total,u.Members,err,worst)
		time.Sleep(10*time.Millisecond)
	}
}
