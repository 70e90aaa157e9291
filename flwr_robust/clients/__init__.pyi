from clients import Adversary as Adversary
from clients import MaliciousNumPyClient as MaliciousNumPyClient
from clients import PoisonedDataset as PoisonedDataset
from clients import attacks as attacks
from clients import frozen_scores as frozen_scores
from clients import malicious_client_fn as malicious_client_fn
from clients import mods as mods
from clients import poisoned_labels as poisoned_labels
