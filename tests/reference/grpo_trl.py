"""GRPO's loss by TRL 1.16.0's own GRPOTrainer._compute_loss (PyTorch 2.15.0), called on given
log-probabilities, and its gradient by autograd: tests/fixtures/train/grpo.json."""
import collections
import json
import pathlib
import types

import torch
import trl
from trl.trainer.grpo_trainer import GRPOTrainer

SEQUENCES, LENGTH, MAX_LENGTH = 6, 9, 12
torch.manual_seed(5)
lengths = [9, 1, 4, 9, 6, 3]
mask = torch.tensor([[int(t < n) for t in range(LENGTH)] for n in lengths])
old = -torch.rand(SEQUENCES, LENGTH) * 3
new = old + torch.randn(SEQUENCES, LENGTH) * 0.7
reference = old + torch.randn(SEQUENCES, LENGTH) * 0.2
entropies = torch.rand(SEQUENCES, LENGTH) * 2
rewards = torch.tensor([3.0, -1.0, 2.0, 0.0, -3.0, 1.0]).double()
# As TRL scales rewards by group: unbiased std, eps 1e-4.
advantages = (rewards - rewards.mean()) / (rewards.std() + 1e-4)


def case(loss_type, low, high, delta, beta, entropy_coef=0.0):
    logprob = new.double().requires_grad_()
    entropy = entropies.double().requires_grad_()
    trainer = types.SimpleNamespace(
        aux_loss_enabled=False, top_entropy_quantile=1.0, off_policy_mask_threshold=None,
        importance_sampling_level="token", beta=beta, loss_type=loss_type, epsilon_low=low,
        epsilon_high=high, use_vllm=False, max_completion_length=MAX_LENGTH,
        args=types.SimpleNamespace(use_bias_correction_kl=False, delta=delta),
        model=types.SimpleNamespace(training=True), current_gradient_accumulation_steps=1,
        _entropy_bonus_enabled=entropy_coef != 0, entropy_coef=entropy_coef,
        use_adaptive_entropy=False,
        accelerator=types.SimpleNamespace(gather=lambda x: x.reshape(-1),
                                          reduce=lambda x, reduction: x, num_processes=1,
                                          sync_gradients=True),
        _metrics={"train": collections.defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *a, **k: (logprob, entropy, None))
    ids = torch.zeros(SEQUENCES, LENGTH, dtype=torch.long)
    loss = GRPOTrainer._compute_loss(trainer, None, dict(
        prompt_ids=ids, prompt_mask=torch.ones_like(ids), completion_ids=ids, completion_mask=mask,
        advantages=advantages, old_per_token_logps=old.double(),
        ref_per_token_logps=reference.double()))
    gradient, by_entropy = torch.autograd.grad(loss, (logprob, entropy), materialize_grads=True)
    metrics = {k: v[-1] for k, v in trainer._metrics["train"].items()}
    return dict(loss_type=loss_type, low=low, high=high, delta=delta or 0, beta=beta,
                entropy_coef=entropy_coef, by_entropy=ragged(by_entropy),
                loss=loss.item(), gradient=ragged(gradient), kl=metrics.get("kl", 0),
                entropy=metrics["entropy"], clipped_low=metrics["clip_ratio/low_mean"],
                clipped_high=metrics["clip_ratio/high_mean"])


def ragged(x):
    return [float(v) for row, n in zip(x, lengths) for v in row[:n]]


cases = [case(*c) for c in [("bnpo", 0.2, 0.2, None, 0.0), ("bnpo", 0.2, 0.28, 1.5, 0.04),
                            ("grpo", 0.2, 0.2, None, 0.1), ("grpo", 0.1, 0.3, 2.0, 0.0),
                            ("dr_grpo", 0.2, 0.2, 3.0, 0.001),
                            ("bnpo", 0.2, 0.2, None, 0.01, 0.05)]]
out = dict(trl=trl.__version__, torch=torch.__version__, lengths=lengths, max_length=MAX_LENGTH, rewards=rewards.tolist(),
           advantages=advantages.tolist(), logprob=ragged(new), old=ragged(old),
           reference=ragged(reference), entropies=ragged(entropies), cases=cases)
path = pathlib.Path(__file__).parent.parent / "fixtures" / "train" / "grpo.json"
path.write_text(json.dumps(out) + "\n")
