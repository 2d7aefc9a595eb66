"""Rating losses and alignment by PyTorch 2.15.0 autograd in f64: tests/fixtures/train/losses.json."""
import json
import pathlib

import torch
import torch.nn.functional as F

torch.manual_seed(11)
cases = []
for n, label, smoothing, temperature in [(5, 0, 0.0, 1.0), (5, 4, 0.2, 2.0), (5, 2, 0.1, 0.5),
                                         (10, 6, 0.3, 4.0), (2, 1, 0.25, 1.5)]:
    s = (2 * torch.randn(n, dtype=torch.float64)).requires_grad_()
    t = 2 * torch.randn(n, dtype=torch.float64)
    y = torch.zeros(n, dtype=torch.float64)
    neighbours = [i for i in (label - 1, label + 1) if 0 <= i < n]
    y[label] = 1 - smoothing
    for i in neighbours:
        y[i] = smoothing / len(neighbours)
    losses = dict(
        ce=F.cross_entropy(s[None], y[None]),
        kd=temperature ** 2 * F.kl_div(F.log_softmax(s / temperature, -1),
                                       F.log_softmax(t / temperature, -1), reduction="sum",
                                       log_target=True),
        rps=((torch.cumsum(torch.softmax(s, -1), -1)
              - (torch.arange(n) >= label).double())[:-1] ** 2).mean())
    case = dict(n=n, label=label, smoothing=smoothing, temperature=temperature,
                scores=s.tolist(), teacher=t.tolist())
    for name, loss in losses.items():
        case[name] = loss.item()
        case["d_" + name] = torch.autograd.grad(loss, s, retain_graph=True)[0].tolist()
    cases.append(case)

L, D = 3, 16
student = torch.randn(L, D).double().requires_grad_()
teacher = torch.randn(L, D).double()
weights = torch.tensor([1.0, 0.5, 3.0]).double()
miss = 1 - F.cosine_similarity(teacher, student, dim=-1)
mean, weighted = miss.mean(), (weights * miss).sum() / weights.sum()
out = dict(cases=cases, student=student.reshape(-1).tolist(), teacher=teacher.reshape(-1).tolist(),
           weights=weights.tolist(), mean=mean.item(), weighted=weighted.item(),
           d_mean=torch.autograd.grad(mean, student, retain_graph=True)[0].reshape(-1).tolist(),
           d_weighted=torch.autograd.grad(weighted, student)[0].reshape(-1).tolist())
path = pathlib.Path(__file__).parent.parent / "fixtures" / "train" / "losses.json"
path.write_text(json.dumps(out) + "\n")
