% Arguments: FOLDER JOBS, as for answers.py. For each job KEY.raw gets the voxels in Octave's order,
% and KEY.json the rest.
arguments = argv();
jobs = strsplit(strtrim(fileread(arguments{2})), "\n");
for number = 1:numel(jobs)
  fields = strsplit(jobs{number}, "\t");
  file = fields{3};
  told = struct();
  if strcmp(fields{2}, "mib")
    % The call that Microscopy Image Browser makes.
    found = load(file, "-mat");
    voxels = found.(found.modelVariable);
    told.names = found.modelMaterialNames;
    told.colours = found.modelMaterialColors;
    told.box = found.BoundingBox;
    told.type = found.modelType;
  else
    found = load("-hdf5", file);
    voxels = found.(fields{4});
  end
  told.class = class(voxels);
  told.size = size(voxels);
  out = fullfile(arguments{1}, fields{1});
  handle = fopen([out ".raw"], "w");
  fwrite(handle, voxels, class(voxels));
  fclose(handle);
  handle = fopen([out ".json"], "w");
  fputs(handle, jsonencode(told));
  fclose(handle);
end
